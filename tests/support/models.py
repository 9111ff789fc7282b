"""The demo models, as the tests of the whole stack serve them: `make test` exports them first."""

import os
import shutil
from pathlib import Path

from tests.support.stack import REPOSITORY_ROOT

DEMO_MODELS = ("chat", "embed", "sentiment")
_EXPORTED = REPOSITORY_ROOT / "model_repository"
_SERVED = REPOSITORY_ROOT / "build" / "test-models"


def demo_repository() -> Path:
    """A repository of hard links to the demo models alone, whatever else was exported. Fails if one is missing."""
    missing = [name for name in DEMO_MODELS if not (_EXPORTED / name / "naiad.json").is_file()]
    assert not missing, f"{', '.join(missing)} not in {_EXPORTED}: run `make models` first"
    shutil.rmtree(_SERVED, ignore_errors=True)
    for name in DEMO_MODELS:
        shutil.copytree(_EXPORTED / name, _SERVED / name, copy_function=os.link)
    return _SERVED
