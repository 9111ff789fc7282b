"""`naiad explain`: which words moved the score of a label, as a table with bars or as JSON."""

import argparse
import json
import os
import sys

from google.protobuf import json_format
from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.cli import addresses, exit_codes, inputs
from services.cli.connection import connect
from services.cli.table import format_table, shorten

WORD_WIDTH = 32
SEED_BITS = 64
BAR_WIDTH = 16  # of each side
METHODS = {
    None: classification_pb2.EXPLAIN_METHOD_UNSPECIFIED,
    "shapley": classification_pb2.EXPLAIN_METHOD_SHAPLEY,
    "occlusion": classification_pb2.EXPLAIN_METHOD_OCCLUSION,
}
RAISES, LOWERS, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[0m"


def run(arguments: argparse.Namespace) -> int:
    """Explains one text."""
    if not 0 <= arguments.seed < 1 << SEED_BITS:
        raise exit_codes.CommandError(f"--seed: {arguments.seed} is not from 0 to 2^64 - 1", exit_codes.WRONG_USAGE)
    request = classification_pb2.ExplainRequest(
        model=arguments.model,
        text=inputs.one_text(arguments.text, "text"),
        label=arguments.label,
        method=METHODS[arguments.method],
        max_samples=arguments.samples,
        seed=arguments.seed,
        truncate=arguments.truncate,
    )
    address = addresses.resolve("classification", arguments.address)
    with connect("classification", address, arguments) as connection:
        stub = classification_pb2_grpc.ClassificationServiceStub(connection.channel)
        response = stub.Explain(request, timeout=connection.timeout_s)
    if arguments.json:
        fields = json_format.MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(fields, ensure_ascii=False, indent=2))
    else:
        _print_table(response, _wants_color(arguments.color))
    return exit_codes.OK


def _wants_color(choice: str) -> bool:
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return choice == "always"


def _print_table(response: classification_pb2.ExplainResponse, color: bool) -> None:
    moved = response.score - response.baseline_score
    print(f"{response.label} {response.score:.4f}: {response.baseline_score:.4f} without words, {moved:+.4f} by them\n")
    largest = max((abs(word.contribution) for word in response.words), default=0.0)
    rows = []
    for word in response.words:
        error = f"± {word.standard_error:.4f}" if word.standard_error else ""
        bar = _bar(word.contribution / largest if largest else 0.0, color)
        rows.append((shorten(word.word, WORD_WIDTH), f"{word.contribution:+.4f}", error, bar))
    if rows:
        with_errors = any(row[2] for row in rows)
        print(format_table(("WORD", "CONTRIBUTION", "ERROR" if with_errors else "", ""), rows))
        print()
    method = classification_pb2.ExplainMethod.Name(response.method).removeprefix("EXPLAIN_METHOD_").lower()
    print(f"{method}, {response.samples} runs of the model, fidelity {response.fidelity:.3f}")


def _bar(share: float, color: bool) -> str:
    """A bar to the left for what lowers the score, to the right for what raises it; `share` from -1 to 1."""
    filled = "█" * round(abs(share) * BAR_WIDTH)
    painted = f"{RAISES if share > 0 else LOWERS}{filled}{PLAIN}" if color and filled else filled
    gap = " " * (BAR_WIDTH - len(filled))
    return f"{' ' * BAR_WIDTH}│{painted}" if share > 0 else f"{gap}{painted}│"
