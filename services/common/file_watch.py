"""Notices that files have changed, also behind the symbolic links by which Kubernetes replaces mounted secrets."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from services.common.task_end import cancel_and_wait

INTERVAL_S = 1.0
Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp_of(paths: Sequence[Path]) -> Stamp:
    """Something that differs once a file was written or replaced; a file that cannot be seen counts as None."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)


class FileWatch:
    """Looks at files every second and calls back about changes, on the event loop.

    The callback must not raise; it is not called again for files that it could not use until they change again.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._watched: list[tuple[Sequence[Path], Callable[[], None]]] = []
        self._stamps: list[Stamp] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, paths: Sequence[Path], since: Stamp, callback: Callable[[], None]) -> None:
        """Calls `callback` after each change of one of `paths` since the stamp `since` was taken."""
        self._watched.append((paths, callback))
        self._stamps.append(since)

    def start(self) -> None:
        """Begins to look, if there is anything to look at."""
        if self._watched:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops to look."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            for index, (paths, callback) in enumerate(self._watched):
                stamp = stamp_of(paths)
                if stamp != self._stamps[index]:
                    self._stamps[index] = stamp
                    callback()
