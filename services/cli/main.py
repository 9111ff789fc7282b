"""Entry point of the command `naiad`. Imports a command's code only when the command is called."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from services.cli import (
    arguments,
    classify_arguments,
    exit_codes,
    model_arguments,
    reading_arguments,
    token_arguments,
)

DESCRIPTION = "Serves BERT and GPT models over gRPC, and calls them."


@dataclass(frozen=True)
class Command:
    """One command. `module` has `run(arguments) -> exit code`."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    module: str


class _CommandsFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of all commands: as wide as the longest name, whose indent argparse forgets."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = max(map(len, COMMANDS)) + 2 * self._indent_increment


def _add_export(parser: argparse.ArgumentParser) -> None:
    importlib.import_module("exporters.cli").add_arguments(parser)


COMMANDS = {
    "serve": Command(
        "start Triton and the services, and keep them running", arguments.add_serve, "services.cli.commands.serve"
    ),
    "export": Command("turn a checkpoint into a model that can be served", _add_export, "services.cli.commands.export"),
    "verify": Command(
        "check models on the disk, and their signatures", model_arguments.add_verify, "services.cli.commands.verify"
    ),
    "sign": Command("sign models on the disk", model_arguments.add_sign, "services.cli.commands.sign"),
    "reload": Command(
        "let a running `naiad serve` take up changed models", model_arguments.add_reload, "services.cli.commands.reload"
    ),
    "models": Command("list the models that are served", arguments.add_models, "services.cli.commands.models"),
    "generate": Command(
        "continue a text or answer a message", arguments.add_generate, "services.cli.commands.generate"
    ),
    "classify": Command(
        "give texts a score for each label", classify_arguments.add_classify, "services.cli.commands.classify"
    ),
    "zero-shot": Command(
        "score texts against labels of your own",
        reading_arguments.add_zero_shot,
        "services.cli.commands.zero_shot",
    ),
    "entities": Command(
        "find names and other entities in texts", reading_arguments.add_entities, "services.cli.commands.entities"
    ),
    "rerank": Command(
        "order documents by how well they answer a query",
        reading_arguments.add_rerank,
        "services.cli.commands.rerank",
    ),
    "explain": Command(
        "show which words moved the score of a label", classify_arguments.add_explain, "services.cli.commands.explain"
    ),
    "embed": Command("turn texts into vectors", arguments.add_embed, "services.cli.commands.embed"),
    "tokenize": Command(
        "split texts into tokens, count them, or join them again",
        arguments.add_tokenize,
        "services.cli.commands.tokenize",
    ),
    "token": Command("make bearer tokens for tenants", token_arguments.add_token, "services.cli.commands.token"),
    "score": Command(
        "give the log-probability of each token of a text", arguments.add_score, "services.cli.commands.score"
    ),
}


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser. Only the chosen command gets its arguments: another's could need packages that are not installed."""
    parser = argparse.ArgumentParser(
        prog="naiad",
        description=DESCRIPTION,
        epilog=f"`naiad COMMAND --help` says more about a command.\n\n{exit_codes.HELP}",
        formatter_class=_CommandsFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            command.add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        parser = build_parser(chosen)
        parsed = parser.parse_args(words)
        parsed.words = words
        if parsed.version:
            print(f"naiad {metadata.version('naiad')}")
            return exit_codes.OK
        if parsed.command is None:
            parser.print_help(sys.stderr)
            return exit_codes.WRONG_USAGE
        exit_code: int = importlib.import_module(COMMANDS[parsed.command].module).run(parsed)
        sys.stdout.flush()
        return exit_code
    except exit_codes.CommandError as error:
        print(f"naiad: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted. Nothing may be written any more, not even at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.OUTPUT_CLOSED


if __name__ == "__main__":
    sys.exit(main())
