"""Serves one system to the driver: `python -m benchmarks.systems.worker MODULE`, where MODULE has `create()`.

Messages come on standard input, answers go to standard output; whatever the system's libraries print goes to standard
error, which the driver keeps in a file.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import BinaryIO

from benchmarks.systems.protocol import Adapter, Unsupported, answer_to, encode


def serve(adapter: Adapter, source: BinaryIO, sink: BinaryIO) -> None:
    """Answers messages until `quit` or the end of the input; closes the adapter."""
    try:
        for line in source:
            message = json.loads(line)
            if message["op"] == "quit":
                break
            try:
                answer = {"ok": True, **answer_to(adapter, message)}
            except Unsupported as error:
                answer = {"ok": False, "error": str(error), "unsupported": True}
            except Exception as error:
                traceback.print_exc()
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            sink.write(encode(answer))
            sink.flush()
    finally:
        adapter.close()


def main() -> None:
    """Takes standard output for the protocol alone, and serves."""
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        adapter: Adapter = importlib.import_module(sys.argv[1]).create()
        serve(adapter, sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
