"""The real stack on the demo models, started once for all tests that use it; signals as tests expect them."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401 - its plugin would import it when pytest ends, and CPython 3.11 may fail in ast.parse there
import pytest

from tests.support.models import exact_repository
from tests.support.stack import Stack, running_stack
from tests.support.transformers_reference import TransformersReference

# A run in the background of a shell inherits an ignored SIGINT, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services and Triton, ready to be called."""
    work_folder: Path = tmp_path_factory.mktemp("stack")
    with running_stack(exact_repository(), work_folder, NAIAD_CPU_PRIORITY="auto", NAIAD_ONE_CORE="auto") as running:
        yield running


@pytest.fixture(scope="session")
def transformers_reference() -> TransformersReference:
    """transformers on the checkpoint of `chat`, loaded once."""
    return TransformersReference()
