"""`naiad classify FILE --output OUT`: a file of texts through ClassifyStream, resumable."""

import argparse
import contextlib
import dataclasses
import itertools
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from naiad.v1 import classification_pb2 as pb

from services.cli import addresses, exit_codes
from services.cli.bulk.client import BulkClient
from services.cli.bulk.exchange import Exchange
from services.cli.bulk.output import FORMAT_VERSION, BulkOutput, RowsDigest
from services.cli.bulk.progress import Progress
from services.cli.bulk.results import ResultFormat
from services.cli.bulk.rows import DEFAULT_COLUMN, DELIMITERS, STANDARD_INPUT, Row, Source, format_of, read_rows
from services.cli.commands.classify import ACTIVATIONS
from services.cli.credentials import credentials_of

COMMIT_INTERVAL_S = 1.0


def run(arguments: argparse.Namespace) -> int:
    """Classifies the rows; fails if one of them failed, after writing the others."""
    source, results = _plan(arguments)
    address = addresses.resolve("classification", arguments.address)
    # Reading all of a file first tells how long it will take, and what is wrong with it before anything is written.
    total_rows = sum(1 for _ in read_rows(source)) if source.path != STANDARD_INPUT else None
    output = BulkOutput(Path(arguments.output), _identity(arguments, source), arguments.overwrite)
    job = _Job(output, results, source)
    exchange = Exchange()
    client = BulkClient(address, _options(arguments, results), exchange, arguments.retry_for)
    client.credentials = credentials_of(arguments)
    if output.resumed.rows:
        print(f"naiad: going on after row {output.resumed.rows} of {arguments.output}", file=sys.stderr)
    progress = Progress(total_rows, output.resumed.rows)
    client.on_wait = progress.say
    reader = threading.Thread(target=exchange.read_all, args=(job.unfinished(read_rows(source)),), daemon=True)
    reader.start()
    try:
        with _on_interrupt(client.stop):
            for row, result in client.results():
                job.take(row, result)
                progress.advance(1)
    except BaseException:
        with contextlib.suppress(exit_codes.CommandError):
            job.commit()
        output.close()
        raise
    finally:
        progress.close()
    job.commit()
    if client.stopped:
        output.close()
        _say_how_to_go_on(arguments, job, total_rows)
        return exit_codes.INTERRUPTED
    output.finish()
    failed = f", {job.failed} of them failed" if job.failed else ""
    print(f"naiad: {job.rows} rows are in {arguments.output}{failed}", file=sys.stderr)
    return exit_codes.FAILED if job.failed else exit_codes.OK


class _Job:
    """What is done so far, in the output and in its journal."""

    def __init__(self, output: BulkOutput, results: ResultFormat, source: Source) -> None:
        self._output = output
        self._results = results
        self._source = source
        self._digest = RowsDigest()
        self._next_commit_s = time.monotonic() + COMMIT_INTERVAL_S
        self.rows, self.failed = output.resumed.rows, output.resumed.failed

    def unfinished(self, rows: Iterator[Row]) -> Iterator[Row]:
        """The rows that are still to be done. Raises CommandError when those before them are not the ones that were."""
        done = self._output.resumed
        for row in itertools.islice(rows, done.rows):
            self._digest.add(row)
        if done.rows and self._digest.value() != done.rows_digest:
            raise exit_codes.CommandError(
                f"the first {done.rows} rows of {self._source.path} are not those of the interrupted run;"
                " --overwrite begins anew",
                exit_codes.WRONG_USAGE,
            )
        yield from rows

    def take(self, row: Row, result: pb.ClassifyResult) -> None:
        """Writes one result, and now and then makes it all last."""
        if not self._results.columns:
            columns = list(row.cells) if self._source.format in DELIMITERS else self._source.columns
            self._results = dataclasses.replace(self._results, columns=columns)
        if self.rows == 0:
            self._output.write(self._results.header())
        self._output.write(self._results.line(row, result))
        self._digest.add(row)
        self.rows += 1
        self.failed += result.HasField("error")
        if time.monotonic() >= self._next_commit_s:
            self.commit()

    def commit(self) -> None:
        """Makes what was written last."""
        self._output.commit(self.rows, self.failed, self._digest.value())
        self._next_commit_s = time.monotonic() + COMMIT_INTERVAL_S


def _plan(arguments: argparse.Namespace) -> tuple[Source, ResultFormat]:
    """What is read, and how results are written. Raises CommandError for options that do not go together."""
    if len(arguments.texts) != 1 or arguments.pair or arguments.json:
        raise _wrong("--output wants one file (or -) in place of TEXT, and neither --pair nor --json")
    (path,) = arguments.texts
    output_format = format_of(arguments.output, "--output")
    if output_format == "txt" or arguments.output.endswith(".gz"):
        raise _wrong(f"--output: {arguments.output!r} does not end in one of .csv, .tsv, .jsonl")
    input_format = arguments.input_format or ("txt" if path == STANDARD_INPUT else format_of(path, "FILE"))
    if path != STANDARD_INPUT and Path(path).resolve() == Path(arguments.output).resolve():
        raise _wrong("--output is the input")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise _wrong(f"--top-k: {arguments.top_k} is less than 1")
    results = ResultFormat(output_format, (), arguments.top_k or 1, arguments.prefix)
    column = arguments.column or DEFAULT_COLUMN
    return Source(path, input_format, column, arguments.pair_column, results.added_names), results


def _options(arguments: argparse.Namespace, results: ResultFormat) -> pb.ClassifyStreamOptions:
    return pb.ClassifyStreamOptions(
        model=arguments.model,
        top_k=arguments.top_k if results.format == "jsonl" else results.top_k,
        activation=ACTIVATIONS[arguments.activation],
        truncate=arguments.truncate,
        window_overlap_tokens=arguments.window_overlap,
    )


def _identity(arguments: argparse.Namespace, source: Source) -> dict[str, object]:
    """What must be the same when a run goes on. Of the input only its rows count, not where it is."""
    options = ("model", "top_k", "activation", "truncate", "window_overlap", "prefix")
    return {
        "version": FORMAT_VERSION,
        "input_format": source.format,
        "column": source.column,
        "pair_column": source.pair_column,
        **{name: getattr(arguments, name) for name in options},
    }


@contextlib.contextmanager
def _on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` at the first Ctrl-C; the next one ends the command as ever."""

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _say_how_to_go_on(arguments: argparse.Namespace, job: _Job, total_rows: int | None) -> None:
    words = [word for word in arguments.words if word != "--overwrite"]
    of_all = f" of {total_rows}" if total_rows is not None else ""
    again = "" if arguments.texts != [STANDARD_INPUT] else " (with the same input)"
    print(f"naiad: interrupted after {job.rows}{of_all} rows; to go on{again}:", file=sys.stderr)
    print(f"  {shlex.join(['naiad', *words])}", file=sys.stderr)


def _wrong(message: str) -> exit_codes.CommandError:
    return exit_codes.CommandError(message, exit_codes.WRONG_USAGE)
