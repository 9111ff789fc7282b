"""A connection to Triton that dies without a word, as behind a firewall that forgets: the service dials again."""

import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from services.common.health import NOT_SERVING, SERVING
from tests.support.cluster import FAST_RECONNECT, ManagedService, ManagedTriton, started
from tests.support.fault_proxy import FaultProxy
from tests.support.history import History, violations
from tests.support.recorded_calls import Question, ask
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder

# The keepalive of the channel to Triton is 10 s, and 10 s for its answer.
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(420)]

RECOVERY_S = 10 + 10 + 5
SPEC = DecoderSpec()
QUESTION = Question("decoder", [5, 6, 7], 8, deadline_s=10)


def test_the_service_dials_again_by_itself(tmp_path: Path) -> None:
    models = tmp_path / "models"
    make_decoder(models, "decoder", SPEC, {"intra_op_threads": "1"})
    triton = ManagedTriton("triton", models, tmp_path)
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(triton.address))
        service = ManagedService("generation", models, proxy.address, tmp_path / "service.log", {})
        stack.enter_context(started(triton, service))
        channel = stack.enter_context(grpc.insecure_channel(service.address, options=FAST_RECONNECT))
        lost_s = time.monotonic()
        proxy.lose_connections()
        service.wait_for(lambda status: status == NOT_SERVING, timeout_s=10)
        service.wait_for(lambda status: status == SERVING, timeout_s=60)
        assert time.monotonic() - lost_s < RECOVERY_S
        history = History()
        ask(channel, QUESTION, history.begin("after", QUESTION.answer, QUESTION.deadline_s))
        assert violations(history, {QUESTION.answer: expected_tokens(SPEC, [5, 6, 7], 8, ignore_eos=True)}, ()) == []
        assert history.outcomes() == {"OK": 1}


def test_five_minutes_of_keepalive_are_not_too_many_pings(tmp_path: Path) -> None:
    models = tmp_path / "models"
    make_decoder(models, "decoder", SPEC, {"intra_op_threads": "1"})
    triton = ManagedTriton("triton", models, tmp_path)
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(triton.address))
        service = ManagedService("generation", models, proxy.address, tmp_path / "service.log", {})
        stack.enter_context(started(triton, service))
        begun = proxy.connections_accepted
        with pytest.raises(grpc.RpcError) as ended:
            service.wait_for(lambda status: status != SERVING, timeout_s=300)
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "the service lost its Triton"
        assert proxy.connections_accepted == begun
