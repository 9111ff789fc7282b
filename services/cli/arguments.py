"""Arguments of every command. Imports nothing heavy: `naiad --help` must be quick."""

import argparse

from services.cli.argument_parts import add_call_options as _add_call_options
from services.cli.argument_parts import add_connection as _add_connection
from services.cli.argument_parts import add_model as _add_model
from services.cli.argument_parts import epilog


def add_serve(parser: argparse.ArgumentParser) -> None:
    """`naiad serve`."""
    parser.epilog = epilog(
        "naiad serve",
        "naiad serve --repository /srv/models",
        "NAIAD_GENERATION_PORT=6000 naiad serve --no-classification",
    )
    parser.add_argument(
        "--repository", metavar="DIR", help="folder of models (default: NAIAD_MODEL_REPOSITORY, or model_repository)"
    )
    for service in ("tokenization", "generation", "classification"):
        parser.add_argument(f"--no-{service}", action="store_true", help=f"do not start the {service} service")


def add_models(parser: argparse.ArgumentParser) -> None:
    """`naiad models`."""
    parser.epilog = epilog("naiad models", "naiad models --json | jq -r 'select(.ready) | .name'")
    for service in ("tokenization", "generation", "classification"):
        parser.add_argument(f"--{service}-address", metavar="HOST:PORT", help=f"where the {service} service listens")
    _add_call_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a model")


def add_generate(parser: argparse.ArgumentParser) -> None:
    """`naiad generate`."""
    parser.epilog = epilog(
        'naiad generate --chat "Name the capital of France."',
        'naiad generate --chat --system "Answer in one word." "Is water wet?"',
        'naiad generate --temperature 0.8 --max-tokens 20 --stop "." "Once upon a time"',
        "naiad generate --chat - < question.txt",
        'naiad generate --json "2 + 2 =" | jq -r ".completions[0].text"',
        "naiad generate --chat --json-schema invoice.schema.json - < invoice.txt | jq .total",
        'naiad generate --chat --regex "(yes|no)" "Is water wet?"',
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="text to continue; - or nothing: standard input")
    _add_model(parser, "chat")
    parser.add_argument(
        "--chat", action="store_true", help="send the prompt as a user's message through the model's chat template"
    )
    parser.add_argument("--system", metavar="TEXT", help="system message before the prompt; implies --chat")
    _add_sampling(parser.add_argument_group("how tokens are chosen (defaults are the service's)"))
    _add_stopping(parser.add_argument_group("when generation ends"))
    _add_guide(parser.add_argument_group("what the text must be (the engine generates nothing else)"))
    scheduling = parser.add_argument_group("how the engine treats the request")
    scheduling.add_argument(
        "--priority", type=int, metavar="N", help="-100 to 100; higher goes first when requests wait (default: 0)"
    )
    scheduling.add_argument(
        "--prefix-cache",
        action=argparse.BooleanOptionalAction,
        help="use, and leave behind, cached work on the same beginning of a prompt (default: yes)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--stream",
        action=argparse.BooleanOptionalAction,
        help="print text as it appears (default, unless --json, --best-of or more than one completion is asked for)",
    )
    output.add_argument(
        "--json", action="store_true", help="print the response as JSON; with --stream one event a line"
    )
    output.add_argument("--timings", action="store_true", help="print tokens and times to standard error")
    output.add_argument("--echo", action="store_true", help="print the prompt before the completion")
    output.add_argument("--logprobs", action="store_true", help="ask for log-probabilities (shown with --json)")
    output.add_argument(
        "--top-logprobs", type=int, metavar="K", help="alternatives at each position; implies --logprobs"
    )
    _add_connection(parser, "generation")


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="X",
        help="0 = greedy: the same command prints the same text; higher is more varied (default: 0)",
    )
    group.add_argument(
        "--top-p", type=float, metavar="X", help="keep the most probable tokens that reach this probability"
    )
    group.add_argument("--top-k", type=int, metavar="K", help="keep the K most probable tokens; 0 = all")
    group.add_argument("--min-p", type=float, metavar="X", help="drop tokens less probable than this share of the best")
    group.add_argument(
        "--repetition-penalty", type=float, metavar="X", help="over 1 makes tokens already seen less probable"
    )
    group.add_argument(
        "--presence-penalty", type=float, metavar="X", help="subtracted once for a token already generated"
    )
    group.add_argument(
        "--frequency-penalty", type=float, metavar="X", help="subtracted for each time a token was generated"
    )
    group.add_argument("--seed", type=int, metavar="N", help="same seed, same request: same output")
    group.add_argument("-n", "--n", type=int, metavar="N", help="number of completions")
    group.add_argument("--best-of", type=int, metavar="N", help="generate N completions, return the best")


def _add_stopping(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-tokens", type=int, metavar="N", help="most new tokens (default: 256)")
    group.add_argument("--min-tokens", type=int, metavar="N", help="no stop token counts before this many new tokens")
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="text that ends generation; may be repeated"
    )
    group.add_argument(
        "--stop-token-id",
        action="append",
        default=[],
        type=int,
        metavar="ID",
        help="token that ends generation; may be repeated",
    )
    group.add_argument("--ignore-eos", action="store_true", help="go on past the model's own end token")


def _add_guide(group: argparse._ArgumentGroup) -> None:
    guide = group.add_mutually_exclusive_group()
    guide.add_argument(
        "--json-schema",
        metavar="FILE|TEXT",
        help="one JSON value that fits this schema: a file, or the schema itself if it starts with {",
    )
    guide.add_argument("--regex", metavar="PATTERN", help="text that this regular expression matches as a whole")
    guide.add_argument("--json-object", action="store_true", help="one JSON object, any")


def add_embed(parser: argparse.ArgumentParser) -> None:
    """`naiad embed`."""
    parser.epilog = epilog(
        'naiad embed "A cat sleeps." | jq length',
        'naiad embed --similarity "A cat sleeps." "A kitten naps." "Stocks fell."',
        "naiad embed --json < sentences.txt > vectors.jsonl",
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; - or nothing: the lines of standard input")
    _add_model(parser, "embed")
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "max", "none"),
        help="none: the vectors of all tokens (default: the checkpoint's)",
    )
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1 (default: as the checkpoint says)",
    )
    parser.add_argument("--dimensions", type=int, metavar="N", help="keep only the first N dimensions")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of failing them")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json", action="store_true", help="print one JSON object a text (default: one JSON array of numbers a text)"
    )
    output.add_argument("--similarity", action="store_true", help="print the cosine of each pair of texts")
    _add_connection(parser, "classification")


def add_tokenize(parser: argparse.ArgumentParser) -> None:
    """`naiad tokenize`."""
    parser.epilog = epilog(
        'naiad tokenize "Hello, world!"',
        'naiad tokenize --ids "Hello, world!" | naiad tokenize --detokenize',
        "naiad tokenize --model embed --count < sentences.txt",
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; - or nothing: the lines of standard input")
    _add_model(parser, "chat")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ids", action="store_true", help="print the ids only, one text a line")
    what.add_argument("--count", action="store_true", help="print the number of tokens of each text")
    what.add_argument(
        "--detokenize",
        action="store_true",
        help="turn ids back into text: all of the command line together, or each line",
    )
    parser.add_argument(
        "--special-tokens",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="add, or with --detokenize keep, special tokens",
    )
    parser.add_argument("--max-length", type=int, metavar="N", help="cut after N tokens")
    parser.add_argument("--json", action="store_true", help="print one JSON object a text, with offsets")
    _add_connection(parser, "tokenization")


def add_score(parser: argparse.ArgumentParser) -> None:
    """`naiad score`."""
    parser.epilog = epilog(
        'naiad score "The capital of France is Paris."', "naiad score --json - < text.txt | jq .perplexity"
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", help="text to score; - or nothing: standard input")
    _add_model(parser, "chat")
    parser.add_argument("--top", type=int, metavar="K", help="show the K most probable tokens at each position")
    parser.add_argument("--json", action="store_true", help="print the response as JSON")
    _add_connection(parser, "generation")
