"""What the README shows works as it stands there."""

import contextlib
import io
import re

import pytest

from tests.support.stack import REPOSITORY_ROOT, Stack

pytestmark = pytest.mark.e2e


def test_the_first_call_of_the_readme_answers(stack: Stack) -> None:
    readme = (REPOSITORY_ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert "127.0.0.1:50052" in code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("127.0.0.1:50052", stack.address("generation")), {})
    assert "Paris" in printed.getvalue()
