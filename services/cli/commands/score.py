"""`naiad score`: log-probability of each token of a text, and its perplexity."""

import argparse
import json

from google.protobuf import json_format
from naiad.v1 import generation_pb2, generation_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import connect
from services.cli.table import format_table


def run(arguments: argparse.Namespace) -> int:
    """Scores one text."""
    request = generation_pb2.ScoreRequest(
        model=arguments.model, text=inputs.one_text(arguments.text, "text"), top_logprobs=arguments.top
    )
    with connect("generation", addresses.resolve("generation", arguments.address), arguments) as connection:
        stub = generation_pb2_grpc.GenerationServiceStub(connection.channel)
        response = stub.Score(request, timeout=connection.timeout_s)
    if arguments.json:
        fields = json_format.MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(fields, ensure_ascii=False, indent=2))
    else:
        _print_table(response)
    return exit_codes.OK


def _print_table(response: generation_pb2.ScoreResponse) -> None:
    rows = []
    for position in response.logprobs:
        chosen = position.chosen
        alternatives = "  ".join(f"{token.token!r} {token.logprob:.3f}" for token in position.top)
        rows.append((str(chosen.token_id), repr(chosen.token), f"{chosen.logprob:.4f}", alternatives))
    print(format_table(("ID", "TOKEN", "LOGPROB", "MOST PROBABLE" if any(row[3] for row in rows) else ""), rows))
    totals = f"log-probability {response.total_logprob:.4f}, perplexity {response.perplexity:.4f}"
    print(f"\n{len(response.token_ids)} tokens, {totals}")
