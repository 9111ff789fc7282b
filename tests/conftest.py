"""The real stack on the demo models, started once for all tests that use it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models import demo_repository
from tests.support.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services and Triton, ready to be called."""
    work_folder: Path = tmp_path_factory.mktemp("stack")
    with running_stack(demo_repository(), work_folder) as running:
        yield running
