"""Rows on their way to the service and back: what was not answered when a stream broke is sent again."""

import threading
from collections import deque
from collections.abc import Iterable

from services.cli.bulk.rows import Row

# Rows that are read but not answered; a few of the service's packs, so that neither side waits for the other.
MAX_ROWS = 8192
MAX_BYTES = 8 * 1024 * 1024
MAX_MESSAGE_ROWS = 256
MAX_MESSAGE_BYTES = 256 * 1024


class Exchange:
    """Shared by the thread that reads rows, gRPC's that sends them, and the one that takes answers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._unsent: deque[Row] = deque()
        self._unanswered: deque[Row] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._connection = 0

    def read_all(self, rows: Iterable[Row]) -> None:
        """Takes rows in, as fast as they are answered. What reading raises comes out of `answered` in its turn."""
        try:
            for row in rows:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    self._unsent.append(row)
                    self._waiting_bytes += row.size_bytes
                    self._changed.notify_all()
        except BaseException as error:
            self._failure = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        waiting_rows = len(self._unsent) + len(self._unanswered)
        return waiting_rows < MAX_ROWS and (not waiting_rows or self._waiting_bytes < MAX_BYTES)

    def connect(self) -> int:
        """Begins a connection; rows that an earlier one left unanswered are sent first."""
        with self._changed:
            self._connection += 1
            self._unsent.extendleft(reversed(self._unanswered))
            self._unanswered.clear()
            self._changed.notify_all()
            return self._connection

    def take(self, connection: int) -> list[Row]:
        """Rows for the next message, without waiting for it to be full; none when `connection` has to send no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._ended or connection != self._connection)
            taken: list[Row] = []
            taken_bytes = 0
            while self._unsent and len(taken) < MAX_MESSAGE_ROWS and connection == self._connection:
                if taken and taken_bytes + self._unsent[0].size_bytes > MAX_MESSAGE_BYTES:
                    break
                taken.append(self._unsent.popleft())
                taken_bytes += taken[-1].size_bytes
            self._unanswered.extend(taken)
            return taken

    def answered(self) -> Row:
        """The row that the next answer is for."""
        with self._changed:
            row = self._unanswered.popleft()
            self._waiting_bytes -= row.size_bytes
            self._changed.notify_all()
            return row

    def finish(self) -> bool:
        """Whether all rows are read and answered. Raises what reading them raised."""
        with self._changed:
            done = self._ended and not self._unsent and not self._unanswered
        if done and self._failure is not None:
            raise self._failure
        return done
