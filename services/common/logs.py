"""Structured logs: one JSON object a line on standard error."""

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

_SHOWN_PATH_PARTS = 3

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode  # json.dumps would make one each time


class JsonFormatter(logging.Formatter):
    """Formats a record, and the dict in its `fields` attribute, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        if record.exc_info:
            line["traceback"] = describe_exception(record.exc_info[1])
        return _encode(line)


def describe_exception(error: BaseException | None) -> list[str]:
    """Kinds of exceptions, the one that was raised last first, and the code that they came through.

    Their messages are left out: those of libraries quote what they choke on, which may be somebody's prompt.
    """
    lines: list[str] = []
    while error is not None:
        lines.append(type(error).__qualname__)
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            file = "/".join(Path(frame.filename).parts[-_SHOWN_PATH_PARTS:])
            lines.append(f"  {frame.name} ({file}:{frame.lineno})")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return lines


class LossyHandler(logging.Handler):
    """Drops lines while they cannot be written, as on a full disk: a service answers calls without its log, too.

    Writes to the descriptor, because a text stream keeps what it could not write and grows by it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        try:
            rest = memoryview((self.format(record) + "\n").encode(errors="backslashreplace"))
            while rest:  # a pipe may take a part
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            pass
        except Exception:
            self.handleError(record)


def configure_logging(level: str) -> None:
    """Sends all logs of this process to standard error. `level` is one of debug, info, warning, error."""
    # What no line shows need not be found out for each: "Optimization" in the manual of `logging`.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = LossyHandler(sys.stderr.fileno())
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
