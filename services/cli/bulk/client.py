"""A stream of rows to the service and of results back, which outlives connections."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from naiad.v1 import classification_pb2 as pb

from services import client
from services.cli import rpc_errors
from services.cli.bulk.exchange import Exchange
from services.cli.bulk.rows import Row
from services.cli.connection import open_client
from services.cli.credentials import Credentials

# A service that froze, or is gone without a word, is noticed.
OPTIONS = client.Options(stream_timeout_s=None, keepalive_time_ms=30_000, health_checks=False)
RETRIED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 15.0


class BulkClient:
    """Classifies the rows of `exchange`. `stop` ends it from another thread, or from a signal handler."""

    def __init__(self, address: str, options: pb.ClassifyStreamOptions, exchange: Exchange, retry_for_s: float) -> None:
        """Gives up when the service was away for `retry_for_s`; at once when it was never there."""
        self._address = address
        self._options = options
        self._exchange = exchange
        self._retry_for_s = retry_for_s
        self._stopped = threading.Event()
        self._call: Any = None
        self.credentials = Credentials()
        self.on_wait: Callable[[str], None] = lambda _: None

    def stop(self) -> None:
        """Ends `results` soon."""
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def results(self) -> Iterator[tuple[Row, pb.ClassifyResult]]:
        """Rows with their results, in order, until all are answered or `stop`. Raises CommandError."""
        wait_s = FIRST_WAIT_S
        last_answer_s, was_there = time.monotonic(), False
        with open_client(self._address, self.credentials, OPTIONS) as opened:
            stub = opened.classification
            while not self.stopped:
                try:
                    for response in self._stream(stub):
                        last_answer_s, was_there, wait_s = time.monotonic(), True, FIRST_WAIT_S
                        for answer in response.results:
                            yield self._answered(answer), answer.result
                    if self._exchange.finish():
                        return
                    raise RuntimeError("the service ended the stream before it had answered everything")
                except client.CallError as error:
                    if self.stopped or self._exchange.finish():
                        return
                    self._check_retry(error, time.monotonic() - last_answer_s, was_there)
                    self._wait(error, wait_s)
                    wait_s = min(2 * wait_s, MAX_WAIT_S)

    def _stream(self, stub: Any) -> Iterator[pb.ClassifyStreamResponse]:
        connection = self._exchange.connect()
        self._call = stub.ClassifyStream(self._requests(connection))
        if self.stopped:
            self._call.cancel()  # it was not there yet when `stop` looked
        try:
            yield from self._call
        finally:
            self._exchange.connect()  # so that gRPC's thread stops to take rows for this one
            self._call.cancel()

    def _requests(self, connection: int) -> Iterator[pb.ClassifyStreamRequest]:
        yield pb.ClassifyStreamRequest(options=self._options)
        while rows := self._exchange.take(connection):
            yield pb.ClassifyStreamRequest(items=map(_item, rows))

    def _answered(self, answer: pb.ClassifyStreamResult) -> Row:
        row = self._exchange.answered()
        if answer.id != str(row.index):
            raise RuntimeError(f"the service answered item {answer.id!r} in place of {row.index}")
        return row

    def _check_retry(self, error: client.CallError, silent_for_s: float, was_there: bool) -> None:
        never_there = not was_there and error.code() is grpc.StatusCode.UNAVAILABLE
        if error.code() not in RETRIED or never_there or silent_for_s > self._retry_for_s:
            raise rpc_errors.command_error(error, "classification", self._address) from error

    def _wait(self, error: client.CallError, wait_s: float) -> None:
        jittered_s = wait_s * random.uniform(0.75, 1.25)  # noqa: S311 - spreads clients, hides nothing
        self.on_wait(f"{error.code().name}: {error.details()}; trying again in {jittered_s:.1f} s")
        self._stopped.wait(jittered_s)


def _item(row: Row) -> pb.ClassifyStreamItem:
    """A row with a problem goes without content: the service answers it with an error, in its place."""
    item = pb.ClassifyStreamItem(id=str(row.index))
    if row.texts is not None and len(row.texts) == 1:
        item.text = row.texts[0]
    elif row.texts is not None:
        item.pair.first, item.pair.second = row.texts
    return item
