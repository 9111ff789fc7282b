"""Retries as gRPC does them with the published service config: where they are safe, and never many."""

from contextlib import ExitStack

import grpc
import pytest

from services import client
from tests.support.attempts import Verdict, counting_server

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
CALLS = 200


def always_failing(_: int) -> grpc.StatusCode:
    return UNAVAILABLE


def never_failing(_: int) -> None:
    return None


def test_a_unary_call_is_retried_twice_and_only_when_unavailable() -> None:
    for code, attempts in ((UNAVAILABLE, 3), (grpc.StatusCode.RESOURCE_EXHAUSTED, 1), (grpc.StatusCode.INTERNAL, 1)):

        def verdict(_: int, code: grpc.StatusCode = code) -> grpc.StatusCode:
            return code

        with counting_server(verdict) as (server, address), client.connect(address) as naiad:
            with pytest.raises(client.CallError) as caught:
                naiad.generate(model="chat", text="x")
            assert caught.value.code() is code
            assert server.attempts == attempts


def test_a_unary_call_that_fails_once_succeeds() -> None:
    with counting_server(lambda attempt: UNAVAILABLE if attempt == 1 else None) as (server, address):
        with client.connect(address) as naiad:
            naiad.generate(model="chat", text="x")
        assert server.attempts == 2
        ids = {metadata["x-request-id"] for metadata in server.metadata}
        assert len(ids) == 1


@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_stream_is_never_retried(moment: str) -> None:
    with counting_server(always_failing) as (server, address), client.connect(address) as naiad:
        with pytest.raises(client.UnavailableError):
            list(naiad.stream(model="chat", text=moment))
        assert server.attempts == 1


def amplification(*verdicts: Verdict) -> tuple[float, int]:
    """Attempts for each call, and how many calls succeeded."""
    with ExitStack() as stack:
        servers, addresses = zip(*(stack.enter_context(counting_server(verdict)) for verdict in verdicts), strict=True)
        naiad = stack.enter_context(client.connect(addresses))
        succeeded = 0
        for _ in range(CALLS):
            try:
                naiad.generate(model="chat", text="x")
                succeeded += 1
            except client.UnavailableError:
                pass
        return sum(server.attempts for server in servers) / CALLS, succeeded


def test_retries_into_an_outage_stay_within_the_budget() -> None:
    half_down, succeeded = amplification(never_failing, always_failing)
    print(f"half down: {half_down:.3f} attempts a call, {succeeded} of {CALLS} succeeded")
    assert half_down <= 1.1
    assert succeeded >= CALLS // 2
    all_down, succeeded = amplification(always_failing, always_failing)
    print(f"all down: {all_down:.3f} attempts a call")
    assert all_down <= 1.1
    assert succeeded == 0
