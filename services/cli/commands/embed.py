"""`naiad embed`: vectors as JSON, or the cosine of each pair of texts."""

import argparse
import json
import math
import struct
from collections.abc import Iterable, Iterator, Sequence

from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error, print_item_error
from services.cli.table import TEXT_WIDTH, format_table, shorten

_FLOAT32 = struct.Struct("f")
POOLINGS = {
    None: classification_pb2.POOLING_UNSPECIFIED,
    "mean": classification_pb2.POOLING_MEAN,
    "cls": classification_pb2.POOLING_CLS,
    "max": classification_pb2.POOLING_MAX,
    "none": classification_pb2.POOLING_NONE,
}

NamedResult = tuple[str, classification_pb2.EmbedResult]


def run(arguments: argparse.Namespace) -> int:
    """Embeds texts; fails if one of them failed, after printing the others."""
    if arguments.similarity and arguments.pooling == "none":
        raise exit_codes.CommandError(
            "--similarity needs one vector a text, not --pooling none", exit_codes.WRONG_USAGE
        )
    requests = [_request(arguments, texts) for texts in inputs.batches(inputs.texts(arguments.texts, "text"))]
    address = addresses.resolve("classification", arguments.address)
    with connect("classification", address, arguments) as connection:
        results = _call(connection, requests)
        all_good = _print_similarity(results) if arguments.similarity else _print_vectors(results, arguments)
    return exit_codes.OK if all_good else exit_codes.FAILED


def _request(arguments: argparse.Namespace, texts: Sequence[str]) -> classification_pb2.EmbedRequest:
    return classification_pb2.EmbedRequest(
        model=arguments.model,
        texts=texts,
        pooling=POOLINGS[arguments.pooling],
        normalize=arguments.normalize,
        dimensions=arguments.dimensions,
        truncate=arguments.truncate,
    )


def _call(connection: Connection, requests: Iterable[classification_pb2.EmbedRequest]) -> Iterator[NamedResult]:
    """The result of each text, with the text."""
    stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
    for request in requests:
        response = stub.Embed(request, timeout=connection.timeout_s)
        yield from zip(request.texts, response.results, strict=True)


def _print_vectors(results: Iterable[NamedResult], arguments: argparse.Namespace) -> bool:
    all_good = True
    for text, result in results:
        if result.HasField("error"):
            all_good = False
            _print_error(text, result, arguments.json)
            continue
        vectors = [[_shortest(value) for value in vector.values] for vector in result.embedding.vectors]
        embedding = vectors if arguments.pooling == "none" else vectors[0]
        line = {"text": text, "embedding": embedding, "tokens": result.embedding.tokens}
        print(json.dumps(line if arguments.json else embedding, ensure_ascii=False), flush=True)
    return all_good


def _print_similarity(results: Iterable[NamedResult]) -> bool:
    all_good = True
    embedded = []
    for text, result in results:
        if result.HasField("error"):
            all_good = False
            _print_error(text, result, as_json=False)
        else:
            embedded.append((text, result.embedding.vectors[0].values))
    rows = [
        (str(number), *(f"{_cosine(vector, other):.4f}" for _, other in embedded), shorten(text, TEXT_WIDTH))
        for number, (text, vector) in enumerate(embedded, start=1)
    ]
    if rows:
        print(format_table(("", *(str(number) for number in range(1, len(rows) + 1)), "TEXT"), rows))
    return all_good


def _print_error(text: str, result: classification_pb2.EmbedResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"text": text, "error": item_error(result.error)}, ensure_ascii=False))
    else:
        print_item_error(text, result.error)


def _shortest(value: float) -> float:
    """The number with the fewest digits that is the same 32-bit number; 9 digits always are enough."""
    for digits in (6, 7, 8):
        candidate = float(f"{value:.{digits}g}")
        if _FLOAT32.unpack(_FLOAT32.pack(candidate)) == (value,):
            return candidate
    return float(f"{value:.9g}")


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(first, second, strict=True))
    length = math.sqrt(math.fsum(x * x for x in first)) * math.sqrt(math.fsum(y * y for y in second))
    return dot / length if length else 0.0
