"""The models that the tests of the whole stack run on: `make test` exports them first."""

from pathlib import Path

from tests.support.stack import REPOSITORY_ROOT

# The demo models, and `chat_fp32`: the weights of `chat` as they are, for comparisons with transformers.
TEST_MODELS = REPOSITORY_ROOT / "build" / "test-models"
DEMO_MODELS = ("chat", "embed", "sentiment")
EXACT_MODEL = "chat_fp32"


def demo_repository() -> Path:
    """The model repository of the tests. Fails, with what to run, if it is not there."""
    missing = [name for name in (*DEMO_MODELS, EXACT_MODEL) if not (TEST_MODELS / name / "naiad.json").is_file()]
    assert not missing, f"{', '.join(missing)} not in {TEST_MODELS}: run `make test-models` first"
    return TEST_MODELS
