"""`naiad classify`: scores of labels, as a table with bars or as JSON lines."""

import argparse
import json
import sys

from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import connect
from services.cli.rpc_errors import item_error
from services.cli.table import bar, format_table, shorten

TEXT_WIDTH = 48
ACTIVATIONS = {
    None: classification_pb2.ACTIVATION_UNSPECIFIED,
    "softmax": classification_pb2.ACTIVATION_SOFTMAX,
    "sigmoid": classification_pb2.ACTIVATION_SIGMOID,
    "none": classification_pb2.ACTIVATION_NONE,
}


def run(arguments: argparse.Namespace) -> int:
    """Classifies texts or pairs; fails if one of them failed, after printing the others."""
    if arguments.pair and arguments.texts:
        raise exit_codes.CommandError("give texts or --pair, not both", exit_codes.WRONG_USAGE)
    pairs = [classification_pb2.TextPair(first=first, second=second) for first, second in arguments.pair]
    texts = [] if pairs else inputs.texts(arguments.texts, "text")
    request = classification_pb2.ClassifyRequest(
        model=arguments.model,
        texts=texts,
        pairs=pairs,
        top_k=arguments.top_k,
        activation=ACTIVATIONS[arguments.activation],
        truncate=arguments.truncate,
    )
    with connect(
        "classification", addresses.resolve("classification", arguments.address), arguments.timeout
    ) as connection:
        stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
        response = stub.Classify(request, timeout=connection.timeout_s)
    names = texts or [f"{pair.first} | {pair.second}" for pair in pairs]
    print_results = _print_json if arguments.json else _print_table
    print_results(names, response)
    failed = any(result.HasField("error") for result in response.results)
    return exit_codes.FAILED if failed else exit_codes.OK


def _print_json(names: list[str], response: classification_pb2.ClassifyResponse) -> None:
    for name, result in zip(names, response.results, strict=True):
        line: dict[str, object] = {"text": name}
        if result.HasField("error"):
            line["error"] = item_error(result.error)
        else:
            line["scores"] = [{"label": score.label, "score": score.score} for score in result.classification.scores]
            line["tokens"] = result.classification.tokens
        print(json.dumps(line, ensure_ascii=False))


def _print_table(names: list[str], response: classification_pb2.ClassifyResponse) -> None:
    rows = []
    for name, result in zip(names, response.results, strict=True):
        if result.HasField("error"):
            print(f"naiad: {shorten(name, TEXT_WIDTH)!r}: {item_error(result.error)}", file=sys.stderr)
            continue
        for position, score in enumerate(result.classification.scores):
            text = shorten(name, TEXT_WIDTH) if position == 0 else ""
            rows.append((text, score.label, f"{score.score:.4f}", bar(score.score)))
    if rows:
        print(format_table(("TEXT", "LABEL", "SCORE", ""), rows))
