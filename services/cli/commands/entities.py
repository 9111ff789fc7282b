"""`naiad entities`: entities of texts, as a table with bars or as JSON lines."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence

from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error, print_item_error
from services.cli.table import TEXT_WIDTH, bar, format_table, shorten

ENTITY_WIDTH = 32
MERGES = {
    None: classification_pb2.ENTITY_MERGE_UNSPECIFIED,
    "entities": classification_pb2.ENTITY_MERGE_ENTITIES,
    "words": classification_pb2.ENTITY_MERGE_WORDS,
    "tokens": classification_pb2.ENTITY_MERGE_TOKENS,
}

NamedResult = tuple[str, classification_pb2.ClassifyTokensResult]


def run(arguments: argparse.Namespace) -> int:
    """Finds entities; fails if a text failed, after printing those of the others."""
    requests = [_request(arguments, texts) for texts in inputs.batches(inputs.texts(arguments.texts, "text"))]
    address = addresses.resolve("classification", arguments.address)
    print_results = _print_json if arguments.json else _print_table
    with connect("classification", address, arguments) as connection:
        all_good = print_results(_call(connection, requests))
    return exit_codes.OK if all_good else exit_codes.FAILED


def _request(arguments: argparse.Namespace, texts: Sequence[str]) -> classification_pb2.ClassifyTokensRequest:
    return classification_pb2.ClassifyTokensRequest(
        model=arguments.model,
        texts=texts,
        merge=MERGES[arguments.merge],
        min_score=arguments.min_score,
        include_outside=arguments.include_outside,
        truncate=arguments.truncate,
        window_overlap_tokens=arguments.window_overlap,
    )


def _call(
    connection: Connection, requests: Iterable[classification_pb2.ClassifyTokensRequest]
) -> Iterator[NamedResult]:
    """The result of each text, with the text."""
    stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
    for request in requests:
        response = stub.ClassifyTokens(request, timeout=connection.timeout_s)
        yield from zip(request.texts, response.results, strict=True)


def _print_json(results: Iterable[NamedResult]) -> bool:
    all_good = True
    for text, result in results:
        line: dict[str, object] = {"text": text}
        if result.HasField("error"):
            all_good = False
            line["error"] = item_error(result.error)
        else:
            line["entities"] = [_as_json(entity) for entity in result.entities.entities]
            line["tokens"] = result.entities.tokens
        print(json.dumps(line, ensure_ascii=False), flush=True)
    return all_good


def _as_json(entity: classification_pb2.Entity) -> dict[str, object]:
    return {
        "label": entity.label,
        "text": entity.text,
        "score": entity.score,
        "start": entity.span.start_char,
        "end": entity.span.end_char,
        "start_byte": entity.span.start_byte,
        "end_byte": entity.span.end_byte,
    }


def _print_table(results: Iterable[NamedResult]) -> bool:
    all_good = True
    rows = []
    for text, result in results:
        if result.HasField("error"):
            all_good = False
            print_item_error(text, result.error)
            continue
        name = shorten(text, TEXT_WIDTH)
        for entity in result.entities.entities:
            span = f"{entity.span.start_char}-{entity.span.end_char}"
            found = shorten(entity.text, ENTITY_WIDTH)
            rows.append((name, span, found, entity.label, f"{entity.score:.4f}", bar(entity.score)))
            name = ""
        if not result.entities.entities:
            rows.append((name, "", "", "", "", ""))
    if rows:
        print(format_table(("TEXT", "WHERE", "ENTITY", "LABEL", "SCORE", ""), rows))
    return all_good
