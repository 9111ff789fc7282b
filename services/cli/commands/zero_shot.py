"""`naiad zero-shot`: scores of labels that the call names, as a table with bars or as JSON lines."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence

from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error, print_item_error
from services.cli.table import TEXT_WIDTH, bar, format_table, shorten

METHODS = {
    classification_pb2.SCORING_METHOD_ENTAILMENT: "entailment",
    classification_pb2.SCORING_METHOD_EMBEDDING: "embedding",
}

NamedResult = tuple[str, str, classification_pb2.ClassifyResult]  # text, method, result


def run(arguments: argparse.Namespace) -> int:
    """Scores texts against the labels; fails if one of them failed, after printing the others."""
    if not arguments.label:
        raise exit_codes.CommandError("no label: give some with --label", exit_codes.WRONG_USAGE)
    requests = [_request(arguments, texts) for texts in inputs.batches(inputs.texts(arguments.texts, "text"))]
    address = addresses.resolve("classification", arguments.address)
    print_results = _print_json if arguments.json else _print_table
    with connect("classification", address, arguments) as connection:
        all_good = print_results(_call(connection, requests))
    return exit_codes.OK if all_good else exit_codes.FAILED


def _request(arguments: argparse.Namespace, texts: Sequence[str]) -> classification_pb2.ClassifyZeroShotRequest:
    return classification_pb2.ClassifyZeroShotRequest(
        model=arguments.model,
        texts=texts,
        labels=arguments.label,
        hypothesis_template=arguments.template,
        multi_label=arguments.multi_label,
        truncate=arguments.truncate,
    )


def _call(
    connection: Connection, requests: Iterable[classification_pb2.ClassifyZeroShotRequest]
) -> Iterator[NamedResult]:
    """The result of each text, with the text and how its scores came about."""
    stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
    for request in requests:
        response = stub.ClassifyZeroShot(request, timeout=connection.timeout_s)
        method = METHODS.get(response.method, str(response.method))
        for text, result in zip(request.texts, response.results, strict=True):
            yield text, method, result


def _print_json(results: Iterable[NamedResult]) -> bool:
    all_good = True
    for text, method, result in results:
        line: dict[str, object] = {"text": text}
        if result.HasField("error"):
            all_good = False
            line["error"] = item_error(result.error)
        else:
            line["scores"] = [{"label": score.label, "score": score.score} for score in result.classification.scores]
            line["method"] = method
            line["tokens"] = result.classification.tokens
        print(json.dumps(line, ensure_ascii=False), flush=True)
    return all_good


def _print_table(results: Iterable[NamedResult]) -> bool:
    all_good = True
    rows = []
    used_method = ""
    for text, method, result in results:
        used_method = method
        if result.HasField("error"):
            all_good = False
            print_item_error(text, result.error)
            continue
        name = shorten(text, TEXT_WIDTH)
        for score in result.classification.scores:
            rows.append((name, score.label, f"{score.score:.4f}", bar(score.score)))
            name = ""
    if rows:
        print(format_table(("TEXT", "LABEL", "SCORE", f"BY {used_method.upper()}"), rows))
    return all_good
