"""Arguments of the commands that read texts with encoders: entities, rerank and zero-shot."""

import argparse

from services.cli.argument_parts import add_connection, add_model, epilog


def add_entities(parser: argparse.ArgumentParser) -> None:
    """`naiad entities`."""
    parser.epilog = epilog(
        'naiad entities "Marie Curie was born in Warsaw."',
        "naiad entities --json < news.txt | jq -r '.entities[] | [.label, .text] | @tsv'",
        "naiad entities --min-score 0.9 --window-overlap 64 - < lines.txt",
    )
    _add_texts(parser)
    add_model(parser, "entities")
    parser.add_argument(
        "--merge",
        choices=("entities", "words", "tokens"),
        help="what one entity is: words that belong together, each word, or each token (default: entities)",
    )
    parser.add_argument(
        "--min-score", type=float, default=0.0, metavar="X", help="leave out what scores lower (0 to 1)"
    )
    parser.add_argument(
        "--include-outside", action="store_true", help="show what is no entity, too; with --merge words or tokens"
    )
    long = parser.add_mutually_exclusive_group()
    _add_truncate(long)
    long.add_argument(
        "--window-overlap",
        type=int,
        metavar="TOKENS",
        help="read texts that are too long in windows that share so many tokens",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a text")
    add_connection(parser, "classification")


def add_rerank(parser: argparse.ArgumentParser) -> None:
    """`naiad rerank`."""
    parser.epilog = epilog(
        'naiad rerank "How do plants eat?" "They use light." "Cats eat fish."',
        'naiad rerank --top-k 3 --json "opening hours" < passages.txt | jq -r .document',
        'naiad rerank --model embed "a small cat" - < sentences.txt',
    )
    parser.add_argument("query", metavar="QUERY", help="what the documents are ordered by")
    parser.add_argument(
        "documents", nargs="*", metavar="DOCUMENT", help="documents; - or nothing: the lines of standard input"
    )
    add_model(parser, "embed")
    parser.add_argument("--top-k", type=int, metavar="K", help="documents to show, best first (default: all)")
    parser.add_argument(
        "--truncate", action="store_true", help="cut documents that are too long instead of failing them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a document")
    add_connection(parser, "classification")


def add_zero_shot(parser: argparse.ArgumentParser) -> None:
    """`naiad zero-shot`."""
    parser.epilog = epilog(
        'naiad zero-shot --label sports --label politics "The minister resigned."',
        "naiad zero-shot -l billing -l delivery --json < mails.txt | jq -r '.scores[0].label'",
        'naiad zero-shot --model nli --multi-label --template "It is {}." -l cheap -l tasty "Good food for little."',
    )
    _add_texts(parser)
    parser.add_argument(
        "-l", "--label", action="append", default=[], metavar="NAME", help="label to score; to be repeated"
    )
    add_model(parser, "embed")
    parser.add_argument(
        "--template",
        metavar="TEXT",
        help='sentence that a label is put into, at {} (default: "This text is about {}.")',
    )
    parser.add_argument(
        "--multi-label", action="store_true", help="a text may have several labels: each score stands alone"
    )
    _add_truncate(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a text")
    add_connection(parser, "classification")


def _add_texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; - or nothing: the lines of standard input")


def _add_truncate(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of failing them")
