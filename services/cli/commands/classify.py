"""`naiad classify`: scores of labels, as a table with bars or as JSON lines."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error
from services.cli.table import bar, format_table, shorten

TEXT_WIDTH = 48
FILE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".gz")
ACTIVATIONS = {
    None: classification_pb2.ACTIVATION_UNSPECIFIED,
    "softmax": classification_pb2.ACTIVATION_SOFTMAX,
    "sigmoid": classification_pb2.ACTIVATION_SIGMOID,
    "none": classification_pb2.ACTIVATION_NONE,
}


NamedResult = tuple[str, classification_pb2.ClassifyResult]


def run(arguments: argparse.Namespace) -> int:
    """Classifies texts, pairs or a file; fails if one of them failed, after printing the others."""
    if arguments.output is not None:
        from services.cli.commands import classify_file

        return classify_file.run(arguments)
    _check_texts_only(arguments)
    if arguments.pair and arguments.texts:
        raise exit_codes.CommandError("give texts or --pair, not both", exit_codes.WRONG_USAGE)
    address = addresses.resolve("classification", arguments.address)
    requests = list(_requests(arguments))
    print_results = _print_json if arguments.json else _print_table
    with connect("classification", address, arguments) as connection:
        all_good = print_results(_call(connection, requests))
    return exit_codes.OK if all_good else exit_codes.FAILED


def _check_texts_only(arguments: argparse.Namespace) -> None:
    """Raises CommandError for what only goes with --output, and for a text that is a file's name."""
    for name in ("column", "pair_column", "input_format"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise exit_codes.CommandError(f"{option} is for files: add --output OUT", exit_codes.WRONG_USAGE)
    for text in arguments.texts:
        if text.endswith(FILE_SUFFIXES) and Path(text).is_file():
            hint = "add --output OUT to classify its rows, or pipe its lines in"
            raise exit_codes.CommandError(f"{text!r} is a file: {hint}", exit_codes.WRONG_USAGE)


def _requests(arguments: argparse.Namespace) -> Iterator[classification_pb2.ClassifyRequest]:
    def request(**items: Any) -> classification_pb2.ClassifyRequest:
        return classification_pb2.ClassifyRequest(
            model=arguments.model,
            top_k=arguments.top_k,
            activation=ACTIVATIONS[arguments.activation],
            truncate=arguments.truncate,
            window_overlap_tokens=arguments.window_overlap,
            **items,
        )

    pairs = [classification_pb2.TextPair(first=first, second=second) for first, second in arguments.pair]
    for some_pairs in inputs.batches(pairs):
        yield request(pairs=some_pairs)
    if not pairs:
        for texts in inputs.batches(inputs.texts(arguments.texts, "text")):
            yield request(texts=texts)


def _call(connection: Connection, requests: Iterable[classification_pb2.ClassifyRequest]) -> Iterator[NamedResult]:
    """The result of each text or pair, with what it is called."""
    stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
    for request in requests:
        response = stub.Classify(request, timeout=connection.timeout_s)
        names = request.texts or [f"{pair.first} | {pair.second}" for pair in request.pairs]
        yield from zip(names, response.results, strict=True)


def _print_json(results: Iterable[NamedResult]) -> bool:
    all_good = True
    for name, result in results:
        line: dict[str, object] = {"text": name}
        if result.HasField("error"):
            all_good = False
            line["error"] = item_error(result.error)
        else:
            line["scores"] = [{"label": score.label, "score": score.score} for score in result.classification.scores]
            line["tokens"] = result.classification.tokens
        print(json.dumps(line, ensure_ascii=False), flush=True)
    return all_good


def _print_table(results: Iterable[NamedResult]) -> bool:
    all_good = True
    rows = []
    for name, result in results:
        if result.HasField("error"):
            all_good = False
            print(f"naiad: {shorten(name, TEXT_WIDTH)!r}: {item_error(result.error)}", file=sys.stderr)
            continue
        for position, score in enumerate(result.classification.scores):
            text = shorten(name, TEXT_WIDTH) if position == 0 else ""
            rows.append((text, score.label, f"{score.score:.4f}", bar(score.score)))
    if rows:
        print(format_table(("TEXT", "LABEL", "SCORE", ""), rows))
    return all_good
