"""`naiad tokenize`: tokens of texts, their number, or the text of tokens."""

import argparse
import json
import sys

from naiad.v1 import common_pb2, tokenization_pb2, tokenization_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error
from services.cli.table import format_table, shorten

TEXT_WIDTH = 48


def run(arguments: argparse.Namespace) -> int:
    """Tokenizes, counts or detokenizes."""
    if arguments.detokenize:
        sequences = [_parse_ids(line) for line in inputs.texts(arguments.texts, "ids")]
    else:
        texts = inputs.texts(arguments.texts, "text")
    with connect("tokenization", addresses.resolve("tokenization", arguments.address), arguments.timeout) as connection:
        if arguments.detokenize:
            return _detokenize(connection, sequences, arguments)
        if arguments.count:
            return _count(connection, texts, arguments)
        return _tokenize(connection, texts, arguments)


def _tokenize(connection: Connection, texts: list[str], arguments: argparse.Namespace) -> int:
    request = tokenization_pb2.TokenizeRequest(
        model=arguments.model,
        texts=texts,
        add_special_tokens=arguments.special_tokens,
        max_length=arguments.max_length,
        return_tokens=True,
        return_offsets=arguments.json,
    )
    stub = tokenization_pb2_grpc.TokenizationServiceStub(connection.channel)
    response = stub.Tokenize(request, timeout=connection.timeout_s)
    for text, result in zip(texts, response.results, strict=True):
        if arguments.json:
            print(json.dumps(_as_json(text, result), ensure_ascii=False))
        elif result.HasField("error"):
            print(f"naiad: {shorten(text, TEXT_WIDTH)!r}: {item_error(result.error)}", file=sys.stderr)
        elif arguments.ids:
            print(*result.tokenization.token_ids)
        else:
            tokens = zip(result.tokenization.token_ids, result.tokenization.tokens, strict=True)
            print(format_table(("ID", "TOKEN"), [(str(token_id), token) for token_id, token in tokens]))
    failed = any(result.HasField("error") for result in response.results)
    return exit_codes.FAILED if failed else exit_codes.OK


def _as_json(text: str, result: tokenization_pb2.TokenizeResult) -> dict[str, object]:
    if result.HasField("error"):
        return {"text": text, "error": item_error(result.error)}
    tokenization = result.tokenization
    return {
        "text": text,
        "token_ids": list(tokenization.token_ids),
        "tokens": list(tokenization.tokens),
        "offsets": [[offset.start, offset.end] for offset in tokenization.offsets],
        "truncated": tokenization.truncated,
    }


def _count(connection: Connection, texts: list[str], arguments: argparse.Namespace) -> int:
    request = tokenization_pb2.CountTokensRequest(
        model=arguments.model, texts=texts, add_special_tokens=arguments.special_tokens
    )
    stub = tokenization_pb2_grpc.TokenizationServiceStub(connection.channel)
    response = stub.CountTokens(request, timeout=connection.timeout_s)
    for text, count in zip(texts, response.counts, strict=True):
        print(json.dumps({"text": text, "count": count}, ensure_ascii=False) if arguments.json else count)
    return exit_codes.OK


def _detokenize(connection: Connection, sequences: list[list[int]], arguments: argparse.Namespace) -> int:
    request = tokenization_pb2.DetokenizeRequest(
        model=arguments.model,
        sequences=[common_pb2.TokenIds(ids=ids) for ids in sequences],
        skip_special_tokens=None if arguments.special_tokens is None else not arguments.special_tokens,
    )
    stub = tokenization_pb2_grpc.TokenizationServiceStub(connection.channel)
    response = stub.Detokenize(request, timeout=connection.timeout_s)
    for ids, text in zip(sequences, response.texts, strict=True):
        print(json.dumps({"token_ids": ids, "text": text}, ensure_ascii=False) if arguments.json else text)
    return exit_codes.OK


def _parse_ids(line: str) -> list[int]:
    """Ids with blanks or commas between them, brackets around them or not."""
    words = line.strip().strip("[]").replace(",", " ").split()
    try:
        return [int(word) for word in words]
    except ValueError:
        message = f"{shorten(line, TEXT_WIDTH)!r} is not a list of token ids"
        raise exit_codes.CommandError(message, exit_codes.WRONG_USAGE) from None
