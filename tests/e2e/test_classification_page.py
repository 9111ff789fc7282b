"""Every example of docs/classification.md works as it stands there, and prints what is shown but for the numbers."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.documentation import commands, examples, run_command, run_python, same_but_for_numbers
from tests.support.models import DEMO_MODELS, demo_model, repository_of
from tests.support.stack import REPOSITORY_ROOT, running_stack

pytestmark = pytest.mark.e2e

PAGE = REPOSITORY_ROOT / "docs" / "classification.md"


def test_the_examples_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (tmp_path / "stack").mkdir()
    encoders = [demo_model(name) for name in DEMO_MODELS if name != "chat"]
    repository = repository_of(encoders, "classification-page")
    problems = []
    names: dict[str, Any] = {}
    with running_stack(repository, tmp_path / "stack") as stack:
        folder = tmp_path / "shell"
        folder.mkdir()
        for name in ("minutes.txt", "passages.txt"):
            (folder / name).write_text("The council met in Vienna.\nPlants make sugar from light.\n")
        for example in examples(page):
            place = f"{PAGE.name}:{example.line}"
            if example.language == "python":
                code = example.code.replace("127.0.0.1:50053", stack.address("classification"))
                printed = run_python(code, names)
                if example.shown is not None and not same_but_for_numbers(printed, example.shown):
                    problems.append(f"{place} printed\n{printed}")
                continue
            for command, shown in commands(example.code):
                done = run_command(command, folder, stack.environment)
                shows_none = example.language == "sh"
                if (shows_none and done.returncode) or (
                    not shows_none and not same_but_for_numbers(done.stdout, shown)
                ):
                    problems.append(f"{place}: {command} ended with {done.returncode} and printed\n{done.stdout}")
    assert not problems, "\n".join(problems)
