"""`naiad rerank`: documents best first, as a table with bars or as JSON lines."""

import argparse
import json
from collections.abc import Iterator, Sequence

from google.rpc import status_pb2
from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error, print_item_error
from services.cli.table import bar, format_table, shorten

DOCUMENT_WIDTH = 72

Ranked = tuple[int, float]
Failed = tuple[int, status_pb2.Status]


def run(arguments: argparse.Namespace) -> int:
    """Orders documents; fails if one of them failed, after printing the others."""
    documents = inputs.texts(arguments.documents, "document")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise exit_codes.CommandError(f"--top-k: {arguments.top_k} is less than 1", exit_codes.WRONG_USAGE)
    address = addresses.resolve("classification", arguments.address)
    ranked: list[Ranked] = []
    failed: list[Failed] = []
    with connect("classification", address, arguments) as connection:
        # A score does not depend on the other documents, so that they need not be in one call.
        for first, response in _call(connection, arguments, documents):
            ranked += [(first + result.index, result.score) for result in response.results]
            failed += [(first + error.index, error.error) for error in response.errors]
    ranked = sorted(ranked, key=lambda result: (-result[1], result[0]))[: arguments.top_k]
    print_results = _print_json if arguments.json else _print_table
    print_results(documents, ranked, failed)
    return exit_codes.FAILED if failed else exit_codes.OK


def _call(
    connection: Connection, arguments: argparse.Namespace, documents: Sequence[str]
) -> Iterator[tuple[int, classification_pb2.RerankResponse]]:
    """Answers about portions of the documents, each with the place of its first one."""
    stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
    first = 0
    for portion in inputs.batches(documents):
        request = classification_pb2.RerankRequest(
            model=arguments.model,
            query=arguments.query,
            documents=portion,
            top_k=arguments.top_k,
            truncate=arguments.truncate,
        )
        yield first, stub.Rerank(request, timeout=connection.timeout_s)
        first += len(portion)


def _print_json(documents: Sequence[str], ranked: Sequence[Ranked], failed: Sequence[Failed]) -> None:
    lines = [{"index": index, "score": score, "document": documents[index]} for index, score in ranked]
    errors = [{"index": index, "error": item_error(status), "document": documents[index]} for index, status in failed]
    for line in (*lines, *errors):
        print(json.dumps(line, ensure_ascii=False))


def _print_table(documents: Sequence[str], ranked: Sequence[Ranked], failed: Sequence[Failed]) -> None:
    for index, status in failed:
        print_item_error(documents[index], status)
    rows = [
        (str(rank), f"{score:.4f}", bar(score), shorten(documents[index], DOCUMENT_WIDTH))
        for rank, (index, score) in enumerate(ranked, start=1)
    ]
    if rows:
        print(format_table(("RANK", "SCORE", "", "DOCUMENT"), rows))
