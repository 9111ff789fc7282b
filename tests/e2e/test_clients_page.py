"""Every example of docs/clients.md works as it stands there; and the policy of docs/safety.md is one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.generation.safety.policy import read_policy
from tests.support.documentation import examples, run_python
from tests.support.models import demo_model, exact_chat, repository_of
from tests.support.stack import REPOSITORY_ROOT, running_stack

pytestmark = pytest.mark.e2e

PAGE = REPOSITORY_ROOT / "docs" / "clients.md"
ADDRESSES = {"generation": "127.0.0.1:50052", "classification": "127.0.0.1:50053"}


def test_the_examples_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    repository = repository_of([exact_chat(), demo_model("sentiment"), demo_model("embed")], "clients-page")
    names: dict[str, Any] = {}
    with running_stack(repository, tmp_path) as stack:
        blocks = list(examples(PAGE.read_text(encoding="utf-8")))
        assert len(blocks) == 6
        for example in blocks:
            code = example.code
            for service, address in ADDRESSES.items():
                code = code.replace(address, stack.address(service))
            assert run_python(code, names) == (example.shown or ""), f"{PAGE.name}:{example.line}"


def test_the_policy_of_the_safety_page_is_one() -> None:
    page = (REPOSITORY_ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert set(read_policy(json.loads(document)).models) == {"chat", "*"}
