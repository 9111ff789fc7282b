"""The check that ports are free."""

import os
import socket

import pytest

from services.supervisor.errors import StartError
from services.supervisor.ports import PortUse, check_free


def use(port: int, owner: str = "generation", variable: str = "NAIAD_GENERATION_PORT") -> PortUse:
    return PortUse("127.0.0.1", port, owner, variable)


def listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_a_free_port_passes() -> None:
    with listen() as listener:
        port = listener.getsockname()[1]
    check_free([use(port)])


def test_a_used_port_is_reported_with_its_process_and_the_variable_that_changes_it() -> None:
    with listen() as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartError) as caught:
            check_free([use(port)])
    message = str(caught.value)
    assert f"generation cannot listen on 127.0.0.1:{port}" in message
    assert f"process {os.getpid()} (" in message
    assert "NAIAD_GENERATION_PORT" in message
    assert "\n" not in message


def test_one_port_for_two_parts_is_refused() -> None:
    with listen() as listener:
        port = listener.getsockname()[1]
    twice = [use(port), use(port, "tokenization", "NAIAD_TOKENIZATION_PORT")]
    with pytest.raises(
        StartError, match=r"both generation and tokenization: change NAIAD_GENERATION_PORT or NAIAD_TOK"
    ):
        check_free(twice)


def test_an_address_that_is_not_ours_is_reported() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1:80.*NAIAD_HOST"):
        check_free([PortUse("192.0.2.1", 80, "generation", "NAIAD_GENERATION_PORT")])
