"""A reload over a supervisor with real child processes that stand for Triton."""

import asyncio
import io
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.supervisor import control
from services.supervisor.child import ChildSpec
from services.supervisor.errors import StartError
from services.supervisor.reload import ModelReloader, ReloadError
from services.supervisor.reporter import Reporter
from services.supervisor.restart import RestartPolicy
from services.supervisor.served_models import ServedModels, serve_models
from services.supervisor.supervisor import Member, Supervisor
from tests.support.malicious_models import ALL, entry_with_outside_weights
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

# Loads what the folder has: notes the names of the models, and ends when one of them is called "broken".
ENGINE = """
import os, signal, sys
models = sorted(os.listdir(sys.argv[1]))
if "broken" in models:
    sys.exit("broken does not load")
with open(sys.argv[2], "a") as log:
    log.write(" ".join(models) + "\\n")
signal.pause()
"""
QUICK = RestartPolicy(first_delay_s=0.01, longest_delay_s=0.02, most_deaths=5, window_s=60.0)


@dataclass
class System:
    """A running supervisor, what it serves, and what its engines have loaded."""

    repository: Path
    models: ServedModels
    supervisor: Supervisor
    reloader: ModelReloader
    output: io.StringIO
    folder: Path

    def loaded(self, engine: str) -> list[str]:
        """What the engine has loaded at each of its starts."""
        return lines_of(self.folder / f"{engine}.loaded")


def lines_of(file: Path) -> list[str]:
    """The lines that are whole."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


def engine(name: str, models: ServedModels, folder: Path) -> Member:
    loaded = folder / f"{name}.loaded"
    spec = ChildSpec(
        name,
        (sys.executable, "-I", "-S", "-c", ENGINE, str(models.path), str(loaded)),
        dict(os.environ),
        folder / f"{name}.log",
    )

    seen = 0

    async def wait_ready() -> None:
        nonlocal seen
        wanted = " ".join(sorted(path.name for path in models.path.iterdir()))
        while lines_of(loaded)[seen:] != [wanted]:  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.005)
        seen += 1

    return Member(spec, wait_ready, 20.0)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    repository = tmp_path / "models"
    repository.mkdir()
    entry_with_outside_weights(repository)
    output, ready = io.StringIO(), asyncio.Event()
    with serve_models(repository, None) as models:
        engines = [engine(name, models, tmp_path) for name in ("triton-1", "triton-2")]
        supervisor = Supervisor([engines], Reporter(output), on_ready=ready.set, policy=QUICK)
        task = asyncio.create_task(supervisor.run())
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), task.result()
        reloader = ModelReloader(models, supervisor, ["triton-1", "triton-2"], Reporter(output))
        yield System(repository, models, supervisor, reloader, output, tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_nothing_is_restarted_when_nothing_has_changed(system: System) -> None:
    assert await system.reloader.reload() == "no model has changed"
    assert system.loaded("triton-1") == ["victim"]


async def test_engines_take_up_a_new_model_one_after_the_other(system: System) -> None:
    make_encoder(system.repository, "added", EncoderSpec(task="classify"))
    assert await system.reloader.reload() == "models reloaded: +added"
    assert system.loaded("triton-1") == system.loaded("triton-2") == ["victim", "added victim"]
    output = system.output.getvalue()
    stops = [output.index(f"triton-{number} stopped") for number in (1, 2)]
    assert stops[0] < output.index("triton-1 is ready", stops[0]) < stops[1]
    assert "died" not in output


async def test_a_refused_model_restarts_nothing(system: System) -> None:
    entry = entry_with_outside_weights(system.repository, "bad")
    entry.rename(entry.with_name("aside"))
    ALL[0].apply(system.repository / "victim")
    shutil.rmtree(system.repository / "aside")
    with pytest.raises(ReloadError, match=r"models of before are still served: victim/1/model\.onnx: wants weights"):
        await system.reloader.reload()
    assert system.loaded("triton-1") == ["victim"]


async def test_a_model_that_does_not_load_is_taken_back_and_the_other_engines_never_see_it(system: System) -> None:
    make_encoder(system.repository, "broken", EncoderSpec(task="classify"))
    with pytest.raises(
        ReloadError, match="triton-1 did not start with the new ones: exit code 1: broken does not load"
    ):
        await system.reloader.reload()
    assert system.loaded("triton-1") == ["victim", "victim"]
    assert system.loaded("triton-2") == ["victim"]
    assert [path.name for path in system.models.path.iterdir()] == ["victim"]
    assert "broken" not in {path.name for path in system.models.path.parent.rglob("*")}


async def test_an_engine_that_is_killed_comes_back_with_the_models_of_before(system: System) -> None:
    make_encoder(system.repository, "broken", EncoderSpec(task="classify"))
    pid = system.supervisor._children["triton-1"].pid
    os.kill(pid, signal.SIGKILL)
    while len(system.loaded("triton-1")) < 2:  # noqa: ASYNC110 - a file tells
        await asyncio.sleep(0.005)
    assert system.loaded("triton-1") == ["victim", "victim"]


async def test_a_reload_while_an_engine_is_being_started_is_refused(system: System) -> None:
    make_encoder(system.repository, "added", EncoderSpec(task="classify"))
    os.kill(system.supervisor._children["triton-1"].pid, signal.SIGSTOP)
    first = asyncio.create_task(system.supervisor.replace("triton-1", before_start=lambda: None, undo=lambda: None))
    await asyncio.sleep(0)
    with pytest.raises(ReloadError, match="triton-1 is being started already"):
        await system.reloader.reload()
    os.kill(system.supervisor._children["triton-1"].pid, signal.SIGCONT)
    assert await first is None


async def test_commands_come_through_a_socket_of_this_user_alone(system: System) -> None:
    folder = system.folder / ("long" * 40)
    folder.mkdir()
    make_encoder(system.repository, "added", EncoderSpec(task="classify"))
    async with control.control_socket(folder, system.reloader.reload):
        assert (folder / control.SOCKET_NAME).stat().st_mode & 0o777 == 0o600
        assert await asyncio.to_thread(control.call, folder, "reload", 20.0) == (True, "models reloaded: +added")
        assert (await asyncio.to_thread(control.call, folder, "fly", 20.0))[0] is False
        ALL[0].apply(system.repository / "victim")
        ok, message = await asyncio.to_thread(control.call, folder, "reload", 20.0)
        assert not ok and message.startswith("the models of before are still served")
        with pytest.raises(StartError, match="another naiad serve"):
            async with control.control_socket(folder, system.reloader.reload):
                pass
    with pytest.raises(control.NotRunningError):
        control.call(folder, "reload", 1.0)


async def test_a_socket_that_a_killed_process_left_is_taken_over(system: System) -> None:
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(system.folder / control.SOCKET_NAME))
    async with control.control_socket(system.folder, system.reloader.reload):
        assert (await asyncio.to_thread(control.call, system.folder, "reload", 20.0))[0]
