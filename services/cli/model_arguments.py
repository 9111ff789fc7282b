"""Arguments of the commands about models on the disk. Imports nothing heavy: `naiad --help` must be quick."""

import argparse

from services.cli.argument_parts import add_timeout, epilog


def add_verify(parser: argparse.ArgumentParser) -> None:
    """`naiad verify`."""
    parser.epilog = epilog(
        "naiad verify",
        "naiad verify chat sentiment",
        "naiad verify --repository /srv/models --public-key models.pub",
    )
    _add_models(parser)
    parser.add_argument(
        "--public-key",
        metavar="FILE",
        help="the models must be signed with this Ed25519 key, in PEM (default: NAIAD_MODEL_PUBLIC_KEY)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a model")


def add_sign(parser: argparse.ArgumentParser) -> None:
    """`naiad sign`."""
    parser.epilog = epilog(
        "naiad sign --new-key models.key          # writes models.key and models.key.pub",
        "naiad sign --key models.key chat",
        "naiad verify --public-key models.key.pub chat",
    )
    _add_models(parser)
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--key", metavar="FILE", help="private Ed25519 key in PEM, without a password")
    keys.add_argument("--new-key", metavar="FILE", help="make a key pair first: FILE, and FILE.pub for whoever serves")


def add_reload(parser: argparse.ArgumentParser) -> None:
    """`naiad reload`."""
    parser.epilog = epilog("naiad export ~/checkpoints/better --name chat --force && naiad reload")
    add_timeout(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of models (default: all of the repository)")
    parser.add_argument(
        "--repository", metavar="DIR", help="folder of models (default: NAIAD_MODEL_REPOSITORY, or model_repository)"
    )
