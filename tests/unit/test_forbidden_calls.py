"""Nothing that serves or exports may load what can run code: pickles, remote code, evaluated text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY_ROOT = Path(__file__).parents[2]
CHECKED = ("services", "exporters", "examples")
MODULES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "imp"})
BUILTINS = frozenset({"eval", "exec", "compile", "__import__"})
# Methods by their last two names: torch.load is one, json.load is none.
METHODS = frozenset(
    {
        ("torch", "load"),
        ("hub", "load"),
        ("yaml", "load"),
        ("yaml", "load_all"),
        ("yaml", "full_load"),
        ("yaml", "unsafe_load"),
        ("os", "system"),
        ("os", "popen"),
        ("np", "load"),
        ("numpy", "load"),
        ("pd", "read_pickle"),
    }
)
# Keyword -> the only value that it may have.
KEYWORDS = {"trust_remote_code": False, "allow_pickle": False, "shell": False, "weights_only": True}
# grpc#41531: after rejections its counter runs below zero, and the limit is gone. naiad has an admission of its own.
NAMES = frozenset({"maximum_concurrent_rpcs"})


def findings(source: str) -> Iterator[str]:
    """What is forbidden in a program, with its line."""
    for node in ast.walk(ast.parse(source)):
        for name in _forbidden(node):
            yield f"{getattr(node, 'lineno', getattr(getattr(node, 'value', None), 'lineno', 0))}: {name}"


def _forbidden(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module.partition(".")[0] in MODULES:
            yield module
        yield from (
            f"{module}.{alias.name}"
            for alias in node.names
            if (module.rpartition(".")[2], alias.name) in METHODS or alias.name in MODULES
        )
    elif isinstance(node, ast.Name) and node.id in BUILTINS:
        yield node.id
    elif isinstance(node, ast.Attribute):
        owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        if (owner, node.attr) in METHODS:
            yield f"{owner}.{node.attr}"
    elif isinstance(node, ast.keyword):
        if node.arg in NAMES:
            yield node.arg
        elif node.arg in KEYWORDS and not (
            isinstance(node.value, ast.Constant) and node.value.value is KEYWORDS[node.arg]
        ):
            yield f"{node.arg}="
    elif isinstance(node, ast.Constant) and node.value in MODULES | NAMES | {"trust_remote_code"}:
        # A module imported by its name, or an option in a dictionary.
        yield repr(node.value)


@pytest.mark.parametrize("folder", CHECKED)
def test_no_module_loads_what_can_run_code(folder: str) -> None:
    files = sorted((REPOSITORY_ROOT / folder).rglob("*.py"))
    assert len(files) > 10
    found = [f"{file.relative_to(REPOSITORY_ROOT)}:{line}" for file in files for line in findings(file.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "program",
    [
        "import torch; torch.load('model.bin')",
        "import torch; torch.load('model.bin', weights_only=True)",
        "from torch import load",
        "load = torch.load",
        "import pickle",
        "from pickle import loads",
        "import importlib; importlib.import_module('pickle')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=flag)",
        "AutoModel.from_pretrained('x', **{'trust_remote_code': True})",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "eval('1')",
        "f = exec",
        "np.load('x.npy', allow_pickle=True)",
        "subprocess.run('x', shell=True)",
        "grpc.aio.server(maximum_concurrent_rpcs=4)",
    ],
)
def test_the_check_finds_each_of_them(program: str) -> None:
    assert list(findings(program))


@pytest.mark.parametrize(
    "program",
    ["json.load(file)", "yaml.safe_load(text)", "re.compile('x')", "from_pretrained('x', trust_remote_code=False)"],
)
def test_the_check_lets_others_pass(program: str) -> None:
    assert not list(findings(program))
