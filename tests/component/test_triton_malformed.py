"""Malformed requests straight to a real tritonserver with the real backend: it lives, and serves the next one right."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.malformed_requests import malformed
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream, generate_request, infer_request, tensors_of
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, expected_logits, make_encoder

pytestmark = pytest.mark.component

DECODER = DecoderSpec()
TEXT = [3, 5, 7]
REQUESTS_A_MODEL = 400
AT_ONCE = 16
# Over the whole of one test: what takes longer hangs.
LIMIT_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """One of its own: another test's must not die here."""
    folder = tmp_path_factory.mktemp("malformed")
    make_decoder(folder, "decoder", DECODER, {"intra_op_threads": "1"})
    for task in ("embed", "classify", "classify_tokens"):
        make_encoder(folder, task, EncoderSpec(task=task), {"intra_op_threads": "1"})
    with run_triton(folder) as server:
        yield server


def encoder_request(model: str) -> service_pb2.ModelInferRequest:
    inputs = {"input_ids": np.array(TEXT, np.int32), "sequence_lengths": np.array([len(TEXT)], np.int32)}
    output = {"embed": "embeddings"}.get(model, "logits")
    return infer_request(model, "r", inputs, [output])


def is_running(server: TritonServer) -> bool:
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
    return "State:\tZ" not in status


@pytest.mark.parametrize("model", ["embed", "classify", "classify_tokens"])
async def test_malformed_requests_to_an_encoder_are_refused(server: TritonServer, model: str) -> None:
    chance = random.Random(f"malformed {model}")
    requests = [malformed(encoder_request(model), chance) for _ in range(REQUESTS_A_MODEL)]
    refused = 0
    begun_s = time.monotonic()
    async with grpc.aio.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        # Without a deadline: one that passed would cancel the call, which can crash this Triton by itself.
        for start in range(0, len(requests), AT_ONCE):
            calls = [stub.ModelInfer(request) for request in requests[start : start + AT_ONCE]]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            errors = [answer for answer in answers if isinstance(answer, BaseException)]
            assert all(isinstance(error, grpc.aio.AioRpcError) and error.details() for error in errors), errors
            refused += len(errors)
            if model == "classify":
                (right,) = await asyncio.gather(stub.ModelInfer(encoder_request(model)))
                np.testing.assert_allclose(tensors_of(right)["logits"], [expected_logits(TEXT)], atol=1e-4)
    assert refused > REQUESTS_A_MODEL / 2
    assert is_running(server)
    assert time.monotonic() - begun_s < LIMIT_S


async def test_malformed_requests_on_a_stream_leave_its_other_requests_alone(server: TritonServer) -> None:
    chance = random.Random("malformed decoder")
    refused = 0
    begun_s = time.monotonic()
    async with InferStream(server.grpc_address) as stream:
        for start in range(0, REQUESTS_A_MODEL, AT_ONCE):
            names = [f"m{start + index}" for index in range(AT_ONCE)]
            good = asyncio.create_task(stream.generate("decoder", f"good{start}", TEXT, 8))
            for name in names:
                await stream.send(malformed(generate_request("decoder", name, TEXT, 4), chance))
            for name in names:
                answer = await stream.next_response(name)
                refused += bool(answer.error_message) or "error_code" in answer.infer_response.parameters
            assert (await good).tokens == expected_tokens(DECODER, TEXT, 8)
    assert refused > REQUESTS_A_MODEL / 2
    assert is_running(server)
    assert time.monotonic() - begun_s < LIMIT_S
