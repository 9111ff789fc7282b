"""What the README shows works as it stands there, on the models as `make serve` serves them."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from tests.support.models import demo_model, demo_repository
from tests.support.stack import REPOSITORY_ROOT, running_stack

pytestmark = pytest.mark.e2e


def test_the_first_call_of_the_readme_answers(tmp_path: Path) -> None:
    readme = (REPOSITORY_ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert "127.0.0.1:50052" in code
    printed = io.StringIO()
    with running_stack(demo_repository(), tmp_path) as stack, contextlib.redirect_stdout(printed):
        exec(code.replace("127.0.0.1:50052", stack.address("generation")), {})
    assert "Paris" in printed.getvalue()


def test_the_demo_decoder_keeps_the_4_bits_of_its_checkpoint_and_has_an_8_bit_cache() -> None:
    manifest = json.loads((demo_model("chat") / "naiad.json").read_text())
    assert manifest["precision"] == "int4"
    assert manifest["decoder"]["kv_cache_type"] == "int8"
    assert abs(manifest["quality"]["perplexity_increase"]) < 0.03
    assert manifest["quality"]["kv_cache"]["perplexity_increase"] < 0.01
