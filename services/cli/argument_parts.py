"""Arguments that several commands have. Imports nothing heavy, like everything that `naiad --help` needs."""

import argparse

from services.cli import exit_codes

DEFAULT_TIMEOUT_S = 120.0


def positive_float(text: str) -> float:
    """A number over 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not over 0")
    return value


def epilog(*examples: str) -> str:
    """The end of a command's help: examples and exit codes."""
    lines = "".join(f"  {example}\n" for example in examples)
    return f"examples:\n{lines}\n{exit_codes.HELP}"


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """`--model`."""
    parser.add_argument(
        "-m", "--model", default=default, metavar="NAME", help=f"model (default: {default}); `naiad models` lists them"
    )


def add_connection(parser: argparse.ArgumentParser, service: str) -> None:
    """Where the service is, and how long a call may take."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help=f"where the {service} service listens (default: where `naiad serve` puts it)",
    )
    add_call_options(group)


def _add_credentials(group: argparse._ActionsContainer) -> None:
    """The token is never an argument itself: other users of a machine see each other's command lines."""
    group.add_argument("--token-file", metavar="FILE", help="bearer token to call with (default: NAIAD_TOKEN_FILE)")
    group.add_argument(
        "--tls-ca",
        dest="client_tls_ca",
        metavar="FILE|system",
        help="call with TLS and trust these authorities (default: NAIAD_CLIENT_TLS_CA)",
    )
    group.add_argument(
        "--tls-certificate",
        dest="client_tls_certificate",
        metavar="FILE",
        help="certificate to show (default: NAIAD_CLIENT_TLS_CERTIFICATE)",
    )
    group.add_argument(
        "--tls-private-key",
        dest="client_tls_private_key",
        metavar="FILE",
        help="key of that certificate (default: NAIAD_CLIENT_TLS_PRIVATE_KEY)",
    )
    group.add_argument(
        "--tls-server-name",
        dest="client_tls_server_name",
        metavar="NAME",
        help="name in the service's certificate (default: the host that is called)",
    )


def add_call_options(group: argparse._ActionsContainer) -> None:
    """Who calls, and how long it may take."""
    _add_credentials(group)
    add_timeout(group)


def add_timeout(group: argparse._ActionsContainer) -> None:
    """`--timeout`."""
    group.add_argument(
        "--timeout",
        type=positive_float,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="deadline of the call (default: %(default)g)",
    )
