"""The models that tests and benchmarks serve: `make test` exports them first.

`make serve` has the demo models, of which `chat` has the 4-bit weights of its checkpoint. What is compared with
transformers token by token is a float export of the same checkpoint, which tests serve as `chat`. `pairs`, which ranks
documents, is trained for a minute only, so that it would help no user.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.stack import REPOSITORY_ROOT

DEMO_MODELS = ("chat", "embed", "sentiment", "entities", "topics")
_EXPORTED = REPOSITORY_ROOT / "model_repository"
_EXACT = REPOSITORY_ROOT / "build" / "exact-models"
_LINKED = REPOSITORY_ROOT / "build" / "test-models"


def demo_model(name: str) -> Path:
    """The demo model as `make serve` serves it."""
    assert (_EXPORTED / name / "naiad.json").is_file(), f"{name} is not in {_EXPORTED}: run `make models` first"
    return _EXPORTED / name


def exact_chat() -> Path:
    """The checkpoint of `chat` with float weights."""
    return exact_model("chat")


def exact_model(name: str) -> Path:
    """One of the models that only tests use."""
    assert (_EXACT / name / "naiad.json").is_file(), f"{name} is not in {_EXACT}: run `make exact-models` first"
    return _EXACT / name


def demo_repository() -> Path:
    """A repository of hard links to the demo models alone, whatever else was exported."""
    return repository_of([demo_model(name) for name in DEMO_MODELS], "demo")


def exact_repository() -> Path:
    """The same with the float `chat`, and the cross-encoder `pairs`."""
    others = [demo_model(name) for name in DEMO_MODELS if name != "chat"]
    return repository_of([exact_chat(), exact_model("pairs"), *others], "exact")


def repository_of(entries: Sequence[Path], name: str) -> Path:
    """A repository of hard links to these entries, in a folder of that name."""
    repository = _LINKED / name
    shutil.rmtree(repository, ignore_errors=True)
    for entry in entries:
        shutil.copytree(entry, repository / entry.name, copy_function=os.link)
    return repository


def link_model(source: Path, repository: Path, name: str, parameters: Mapping[str, str]) -> Path:
    """Writes `repository/name`: hard links to the exported model `source` with other model parameters.

    `repository` must be on the file system of `source`: ONNX Runtime refuses weights behind a symbolic link.
    """
    entry = repository / name
    shutil.copytree(source, entry, copy_function=os.link)
    _replace(entry / "naiad.json", json.dumps({**json.loads((source / "naiad.json").read_text()), "name": name}))
    config = (source / "config.pbtxt").read_text().replace(f'name: "{source.name}"', f'name: "{name}"', 1)
    config += "".join(
        f'\nparameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()
    )
    _replace(entry / "config.pbtxt", config)
    return entry


@contextlib.contextmanager
def linked_models(variants: Mapping[str, Mapping[str, str]], source: Path | None = None) -> Iterator[Path]:
    """A repository in which every key is a copy of the entry `source` (the exact `chat`) with the parameters of its
    value."""
    exported = source or exact_chat()
    with tempfile.TemporaryDirectory(dir=REPOSITORY_ROOT / "build", prefix="test-models-") as folder:
        for name, parameters in variants.items():
            link_model(exported, Path(folder), name, parameters)
        yield Path(folder)


def kv_block_bytes(entry: Path) -> int:
    """Memory of one block of a decoder's KV cache, over all layers."""
    shape = json.loads((entry / "naiad.json").read_text())["decoder"]
    rows = shape["num_layers"] * 2 * shape["num_kv_heads"] * shape["kv_block_tokens"]
    row_bytes = shape["head_size"] + 4 if shape.get("kv_cache_type") == "int8" else 4 * shape["head_size"]
    return int(rows * row_bytes)


def give_int8_cache(entry: Path) -> None:
    """Turns a linked entry into what `naiad export --kv-cache int8` writes: the same weights, 8-bit keys and values."""
    from exporters.decoder_graph import DecoderShape
    from exporters.kv_cache_graph import use_int8_cache

    manifest = json.loads((entry / "naiad.json").read_text())
    graph = entry / "1" / "model.onnx"
    own_copy = graph.with_suffix(".copy")
    shutil.copyfile(graph, own_copy)
    own_copy.replace(graph)
    use_int8_cache(graph, DecoderShape(**manifest["limits"], **manifest["decoder"]))
    manifest["decoder"]["kv_cache_type"] = "int8"
    content = graph.read_bytes()
    manifest["files"]["graph"] |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    _replace(entry / "naiad.json", json.dumps(manifest))


def _replace(file: Path, text: str) -> None:
    """Writes a new file in the place of a link, whose target stays as it is."""
    file.unlink()
    file.write_text(text)
