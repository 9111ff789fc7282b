"""`naiad embed`: vectors as JSON, or the cosine of each pair of texts."""

import argparse
import json
import math
import sys
from collections.abc import Sequence

from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import connect
from services.cli.rpc_errors import item_error
from services.cli.table import format_table, shorten

TEXT_WIDTH = 48
POOLINGS = {
    None: classification_pb2.POOLING_UNSPECIFIED,
    "mean": classification_pb2.POOLING_MEAN,
    "cls": classification_pb2.POOLING_CLS,
    "max": classification_pb2.POOLING_MAX,
    "none": classification_pb2.POOLING_NONE,
}


def run(arguments: argparse.Namespace) -> int:
    """Embeds texts; fails if one of them failed, after printing the others."""
    if arguments.similarity and arguments.pooling == "none":
        raise exit_codes.CommandError(
            "--similarity needs one vector a text, not --pooling none", exit_codes.WRONG_USAGE
        )
    texts = inputs.texts(arguments.texts, "text")
    request = classification_pb2.EmbedRequest(
        model=arguments.model,
        texts=texts,
        pooling=POOLINGS[arguments.pooling],
        normalize=arguments.normalize,
        dimensions=arguments.dimensions,
        truncate=arguments.truncate,
    )
    with connect(
        "classification", addresses.resolve("classification", arguments.address), arguments.timeout
    ) as connection:
        stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
        response = stub.Embed(request, timeout=connection.timeout_s)
    failed = any(result.HasField("error") for result in response.results)
    if arguments.similarity:
        _print_similarity(texts, response)
    else:
        _print_vectors(texts, response, arguments)
    return exit_codes.FAILED if failed else exit_codes.OK


def _print_vectors(texts: list[str], response: classification_pb2.EmbedResponse, arguments: argparse.Namespace) -> None:
    for text, result in zip(texts, response.results, strict=True):
        if result.HasField("error"):
            _print_error(text, result, arguments.json)
            continue
        vectors = [[_shortest(value) for value in vector.values] for vector in result.embedding.vectors]
        embedding = vectors if arguments.pooling == "none" else vectors[0]
        if arguments.json:
            line = {"text": text, "embedding": embedding, "tokens": result.embedding.tokens}
            print(json.dumps(line, ensure_ascii=False))
        else:
            print(json.dumps(embedding))


def _print_similarity(texts: list[str], response: classification_pb2.EmbedResponse) -> None:
    embedded = []
    for text, result in zip(texts, response.results, strict=True):
        if result.HasField("error"):
            _print_error(text, result, as_json=False)
        else:
            embedded.append((text, result.embedding.vectors[0].values))
    rows = [
        (str(number), *(f"{_cosine(vector, other):.4f}" for _, other in embedded), shorten(text, TEXT_WIDTH))
        for number, (text, vector) in enumerate(embedded, start=1)
    ]
    if rows:
        print(format_table(("", *(str(number) for number in range(1, len(rows) + 1)), "TEXT"), rows))


def _print_error(text: str, result: classification_pb2.EmbedResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"text": text, "error": item_error(result.error)}, ensure_ascii=False))
    else:
        print(f"naiad: {shorten(text, TEXT_WIDTH)!r}: {item_error(result.error)}", file=sys.stderr)


def _shortest(value: float) -> float:
    """The shortest decimal number that is the same 32-bit number: 9 digits always are enough."""
    return float(f"{value:.9g}")


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(first, second, strict=True))
    length = math.sqrt(math.fsum(x * x for x in first)) * math.sqrt(math.fsum(y * y for y in second))
    return dot / length if length else 0.0
