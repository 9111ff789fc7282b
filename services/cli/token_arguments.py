"""Arguments of `naiad token`."""

import argparse

from services.cli.argument_parts import epilog, positive_float


def add_token(parser: argparse.ArgumentParser) -> None:
    """`naiad token new`."""
    parser.epilog = epilog(
        "naiad token new search --file tenants.json --expires-days 90 > search.token",
        "naiad generate --token-file search.token --chat 'Name the capital of France.'",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a token and keep its hash", description="Makes a token for a tenant.")
    new.add_argument("tenant", metavar="TENANT", help="whose token it is; a new name makes a new tenant")
    new.add_argument("--file", metavar="FILE", help="tenants file (default: NAIAD_TENANTS_FILE)")
    new.add_argument(
        "--expires-days", type=positive_float, metavar="N", help="days until it stops to work (default: never)"
    )
    new.add_argument(
        "--print-only",
        action="store_true",
        help="change no file; print what belongs into it to standard error",
    )
