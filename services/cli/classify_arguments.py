"""Arguments of `naiad classify` and `naiad explain`."""

import argparse

from services.cli.argument_parts import add_connection, add_model, epilog, positive_float


def add_classify(parser: argparse.ArgumentParser) -> None:
    """`naiad classify`."""
    parser.usage = (
        "%(prog)s [options] [TEXT ...]\n"
        "       %(prog)s [options] --pair FIRST SECOND [--pair ...]\n"
        "       %(prog)s [options] FILE --output OUT [--column NAME]"
    )
    parser.description = (
        "Give texts a score for each label: texts of the command line or of standard input as a table,\n"
        "or, with --output, the rows of a file to another file, however many they are."
    )
    parser.epilog = epilog(
        'naiad classify "A wonderful, moving film."',
        "naiad classify --json < reviews.txt | jq -r '.scores[0].label'",
        'naiad classify --model nli --pair "It rains." "The street is wet."',
        "naiad classify reviews.csv --column review --output scored.csv",
        "zcat reviews.jsonl.gz | naiad classify - --input-format jsonl --output scored.jsonl",
    )
    parser.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT",
        help="texts; - or nothing: the lines of standard input. With --output: the file to read, or -",
    )
    add_model(parser, "sentiment")
    parser.add_argument(
        "--pair",
        nargs=2,
        action="append",
        default=[],
        metavar=("FIRST", "SECOND"),
        help="two texts read together; may be repeated",
    )
    parser.add_argument(
        "--top-k",
        type=int,
        metavar="K",
        help="labels to show, best first (default: all; in a CSV or TSV file the best)",
    )
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid", "none"),
        help="how logits become scores (default: the checkpoint's)",
    )
    long = parser.add_mutually_exclusive_group()
    long.add_argument("--truncate", action="store_true", help="cut texts that are too long instead of failing them")
    long.add_argument(
        "--window-overlap",
        type=int,
        metavar="TOKENS",
        help="read texts that are too long in windows that share so many tokens, and average their scores",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a text")
    _add_bulk(parser.add_argument_group("a file of texts (an interrupted run goes on where it was)"))
    add_connection(parser, "classification")


def _add_bulk(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output", metavar="OUT", help="file for the rows with their labels: .csv, .tsv or .jsonl; makes TEXT a file"
    )
    group.add_argument("--column", metavar="NAME", help="column, or field, that holds the text (default: text)")
    group.add_argument("--pair-column", metavar="NAME", help="column of a second text that is read with the first")
    group.add_argument(
        "--input-format",
        choices=("csv", "tsv", "jsonl", "txt"),
        help="what the input is (default: by its name, .gz or not; lines of text for standard input)",
    )
    group.add_argument("--prefix", default="", metavar="TEXT", help="beginning of the names of added columns")
    group.add_argument("--overwrite", action="store_true", help="begin anew, whatever is in OUT")
    group.add_argument(
        "--retry-for",
        type=positive_float,
        default=600.0,
        metavar="SECONDS",
        help="give up when the service was away for so long (default: %(default)g)",
    )


def add_explain(parser: argparse.ArgumentParser) -> None:
    """`naiad explain`."""
    parser.epilog = epilog(
        'naiad explain "A wonderful cast cannot save this dull film."',
        'naiad explain --label negative --samples 2000 "Not bad at all."',
        "naiad explain --json - < review.txt | jq '.words[0]'",
    )
    parser.add_argument("text", nargs="?", metavar="TEXT", help="text to explain; - or nothing: standard input")
    add_model(parser, "sentiment")
    parser.add_argument("--label", metavar="NAME", help="label to explain (default: the one with the best score)")
    parser.add_argument(
        "--method",
        choices=("shapley", "occlusion"),
        help="shapley: fair shares of what words bring together; occlusion: each word left out once (default: shapley)",
    )
    parser.add_argument("--samples", type=int, metavar="N", help="most runs of the model, 16 to 10000 (default: 512)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="same seed: same answer (default: 0)")
    parser.add_argument("--truncate", action="store_true", help="cut a text that is too long instead of failing")
    parser.add_argument("--json", action="store_true", help="print the response as JSON")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours in the table (default: on a terminal, unless NO_COLOR is set)",
    )
    add_connection(parser, "classification")
