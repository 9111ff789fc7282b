"""The fault proxy itself: what two plain sockets see of each mode."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.fault_proxy import FaultMode, FaultProxy

TIMEOUT_S = 5
# How long silence must last to be believed.
SILENCE_S = 0.2


@pytest.fixture
def echo() -> Iterator[str]:
    """HOST:PORT of a server that sends back what it gets."""
    with contextlib.ExitStack() as open_connections, socket.create_server(("127.0.0.1", 0)) as server:

        def answer(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := connection.recv(4096):
                    connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = open_connections.enter_context(server.accept()[0])
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield "{}:{}".format(*server.getsockname())
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: str) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as running:
        yield running


def connect(proxy: FaultProxy) -> socket.socket:
    host, port = proxy.address.split(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def said(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return heard(connection, len(text))


def heard(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := connection.recv(size - len(data))):
        data += part
    return data


def assert_silent(connection: socket.socket) -> None:
    connection.settimeout(SILENCE_S)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(TIMEOUT_S)


def test_bytes_pass_unchanged_and_ends_are_passed_on(proxy: FaultProxy) -> None:
    text = bytes(range(256)) * 4096
    with connect(proxy) as first, connect(proxy) as second:
        assert said(second, b"two") == b"two"
        sender = threading.Thread(target=first.sendall, args=(text,))
        sender.start()
        assert heard(first, len(text)) == text
        sender.join()
        first.shutdown(socket.SHUT_WR)
        assert first.recv(1) == b""
    assert proxy.connections_accepted == 2


def test_a_reset_by_the_upstream_reaches_the_client() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        FaultProxy("{}:{}".format(*server.getsockname())) as proxy,
        connect(proxy) as client,
    ):
        client.sendall(b"x")
        upstream, _ = server.accept()
        assert upstream.recv(1) == b"x"
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        upstream.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_delay_keeps_the_order(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert said(connection, b"0") == b"0"
        proxy.set_mode(FaultMode.DELAY, delay_s=0.1)
        begun = time.monotonic()
        assert said(connection, b"1") + said(connection, b"2") == b"12"
        assert time.monotonic() - begun >= 0.4  # each way, twice


def test_a_reset_ends_old_and_new_connections_and_only_those(proxy: FaultProxy) -> None:
    with connect(proxy) as old:
        assert said(old, b"x") == b"x"
        proxy.set_mode(FaultMode.RESET)
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with pytest.raises(ConnectionError), connect(proxy) as refused:
            said(refused, b"x")
            raise ConnectionError("ended without a reset")
    proxy.set_mode(FaultMode.PASS)
    with connect(proxy) as new:
        assert said(new, b"y") == b"y"
        proxy.reset_connections()
        with pytest.raises(ConnectionResetError):
            new.recv(1)


def test_nothing_gets_out_of_a_black_hole_before_it_ends(proxy: FaultProxy) -> None:
    with connect(proxy) as old:
        assert said(old, b"x") == b"x"
        proxy.set_mode(FaultMode.BLACKHOLE)
        old.sendall(b"late")
        with connect(proxy) as new:
            new.sendall(b"later")
            assert_silent(old)
            assert_silent(new)
            proxy.set_mode(FaultMode.PASS)
            assert (heard(old, 4), heard(new, 5)) == (b"late", b"later")


def test_a_half_open_connection_is_silent_and_dead_for_good(proxy: FaultProxy) -> None:
    with connect(proxy) as old:
        assert said(old, b"x") == b"x"
        proxy.set_mode(FaultMode.HALF_OPEN)
        with connect(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"lost")
                assert_silent(connection)
            proxy.set_mode(FaultMode.PASS)
            for connection in (old, new):
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
    with connect(proxy) as fresh:
        assert said(fresh, b"y") == b"y"


def test_a_lost_connection_stays_silent_while_new_ones_pass(proxy: FaultProxy) -> None:
    with connect(proxy) as old:
        assert said(old, b"x") == b"x"
        proxy.lose_connections()
        old.sendall(b"lost")
        with connect(proxy) as new:
            assert said(new, b"y") == b"y"
            proxy.set_mode(FaultMode.HALF_OPEN)
            proxy.set_mode(FaultMode.PASS)
            with pytest.raises(ConnectionResetError):
                new.recv(1)
            assert_silent(old)
