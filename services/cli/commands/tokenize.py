"""`naiad tokenize`: tokens of texts, their number, or the text of tokens."""

import argparse
import json
import sys
from collections.abc import Sequence

from naiad.v1 import common_pb2, tokenization_pb2, tokenization_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import Connection, connect
from services.cli.rpc_errors import item_error
from services.cli.table import format_table, shorten

TEXT_WIDTH = 48


def run(arguments: argparse.Namespace) -> int:
    """Tokenizes, counts or detokenizes; fails if a text failed, after printing the others."""
    texts = inputs.texts(arguments.texts, "ids" if arguments.detokenize else "text")
    sequences = _sequences(arguments, texts) if arguments.detokenize else []
    address = addresses.resolve("tokenization", arguments.address)
    with connect("tokenization", address, arguments) as connection:
        client = _Client(connection, arguments)
        if arguments.detokenize:
            return max(client.detokenize(some) for some in inputs.batches(sequences))
        call = client.count if arguments.count else client.tokenize
        return max(call(some) for some in inputs.batches(texts))


class _Client:
    """The calls, each with its output; each returns an exit code."""

    def __init__(self, connection: Connection, arguments: argparse.Namespace) -> None:
        self._stub = tokenization_pb2_grpc.TokenizationServiceStub(connection.channel)
        self._timeout_s = connection.timeout_s
        self._arguments = arguments

    def tokenize(self, texts: Sequence[str]) -> int:
        request = tokenization_pb2.TokenizeRequest(
            model=self._arguments.model,
            texts=texts,
            add_special_tokens=self._arguments.special_tokens,
            max_length=self._arguments.max_length,
            return_tokens=not self._arguments.ids,
            return_offsets=self._arguments.json,
        )
        response = self._stub.Tokenize(request, timeout=self._timeout_s)
        for text, result in zip(texts, response.results, strict=True):
            self._print_tokens(text, result)
        failed = any(result.HasField("error") for result in response.results)
        return exit_codes.FAILED if failed else exit_codes.OK

    def count(self, texts: Sequence[str]) -> int:
        request = tokenization_pb2.CountTokensRequest(
            model=self._arguments.model, texts=texts, add_special_tokens=self._arguments.special_tokens
        )
        response = self._stub.CountTokens(request, timeout=self._timeout_s)
        for text, count in zip(texts, response.counts, strict=True):
            self._print({"text": text, "count": count}, str(count))
        return exit_codes.OK

    def detokenize(self, sequences: Sequence[list[int]]) -> int:
        keep_special = self._arguments.special_tokens
        request = tokenization_pb2.DetokenizeRequest(
            model=self._arguments.model,
            sequences=[common_pb2.TokenIds(ids=ids) for ids in sequences],
            skip_special_tokens=None if keep_special is None else not keep_special,
        )
        response = self._stub.Detokenize(request, timeout=self._timeout_s)
        for ids, text in zip(sequences, response.texts, strict=True):
            self._print({"token_ids": ids, "text": text}, text)
        return exit_codes.OK

    def _print_tokens(self, text: str, result: tokenization_pb2.TokenizeResult) -> None:
        ids, tokens = result.tokenization.token_ids, result.tokenization.tokens
        if self._arguments.json:
            print(json.dumps(_as_json(text, result), ensure_ascii=False))
        elif result.HasField("error"):
            print(f"naiad: {shorten(text, TEXT_WIDTH)!r}: {item_error(result.error)}", file=sys.stderr)
        elif self._arguments.ids:
            print(*ids)
        else:
            rows = [(str(token_id), token) for token_id, token in zip(ids, tokens, strict=True)]
            print(format_table(("ID", "TOKEN"), rows))

    def _print(self, fields: dict[str, object], text: str) -> None:
        print(json.dumps(fields, ensure_ascii=False) if self._arguments.json else text)


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


def _sequences(arguments: argparse.Namespace, texts: Sequence[str]) -> list[list[int]]:
    """Ids of the command line are one sequence; each line of standard input is one."""
    on_command_line = arguments.texts and arguments.texts != ["-"]
    return [_parse_ids(text) for text in ([" ".join(texts)] if on_command_line else texts)]


def _parse_ids(line: str) -> list[int]:
    """Ids with blanks or commas between them, brackets around them or not."""
    words = line.strip().strip("[]").replace(",", " ").split()
    try:
        return [int(word) for word in words]
    except ValueError:
        message = f"{shorten(line, TEXT_WIDTH)!r} is not a list of token ids"
        raise exit_codes.CommandError(message, exit_codes.WRONG_USAGE) from None
