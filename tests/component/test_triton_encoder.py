"""Tasks "embed", "classify" and "classify_tokens" through a real tritonserver."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.triton import TritonServer
from tests.support.triton_stream import Parameter, infer_request, parameters_of, tensors_of
from tests.synthetic.make_encoder import HIDDEN_SIZE, LABELS, expected_hidden, expected_logits, expected_token_logits

pytestmark = pytest.mark.component

TEXTS = [[3, 5, 7], [10], [2, 4, 6, 8, 11]]


def _request(
    model: str, texts: Sequence[Sequence[int]], outputs: Sequence[str], **parameters: Parameter
) -> service_pb2.ModelInferRequest:
    inputs: dict[str, npt.NDArray[np.int32]] = {
        "input_ids": np.concatenate([np.asarray(text, np.int32) for text in texts]),
        "sequence_lengths": np.asarray([len(text) for text in texts], np.int32),
    }
    return infer_request(model, "r", inputs, outputs, **parameters)


async def _infer(
    triton: TritonServer, *requests: service_pb2.ModelInferRequest
) -> list[service_pb2.ModelInferResponse]:
    async with grpc.aio.insecure_channel(triton.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return list(await asyncio.gather(*(stub.ModelInfer(request, timeout=30) for request in requests)))


async def _error(triton: TritonServer, request: service_pb2.ModelInferRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _infer(triton, request)
    return caught.value


async def test_embeddings_are_the_pooled_hidden_vectors_of_each_text(triton: TritonServer) -> None:
    (mean,) = await _infer(triton, _request("embed", TEXTS, ["embeddings"]))
    (cls,) = await _infer(triton, _request("embed", TEXTS, ["embeddings"], pooling="cls"))
    (largest,) = await _infer(triton, _request("embed", TEXTS, ["embeddings"], pooling="max"))
    hidden = [expected_hidden(text) for text in TEXTS]
    np.testing.assert_allclose(tensors_of(mean)["embeddings"], [h.mean(axis=0) for h in hidden], atol=1e-4)
    np.testing.assert_allclose(tensors_of(cls)["embeddings"], [h[0] for h in hidden], atol=1e-4)
    np.testing.assert_allclose(tensors_of(largest)["embeddings"], [h.max(axis=0) for h in hidden], atol=1e-4)
    assert parameters_of(mean).keys() >= {"queue_us", "compute_us"}


async def test_hidden_states_are_one_row_a_token(triton: TritonServer) -> None:
    (response,) = await _infer(triton, _request("embed", TEXTS, ["hidden_states"]))
    tensors = tensors_of(response)
    assert tensors.keys() == {"hidden_states"}
    assert tensors["hidden_states"].shape == (9, HIDDEN_SIZE)
    np.testing.assert_allclose(tensors["hidden_states"], np.concatenate([expected_hidden(t) for t in TEXTS]), atol=1e-4)


async def test_logits_are_one_row_a_text(triton: TritonServer) -> None:
    (response,) = await _infer(triton, _request("classify", TEXTS, ["logits"]))
    np.testing.assert_allclose(tensors_of(response)["logits"], [expected_logits(t) for t in TEXTS], atol=1e-4)


async def test_logits_of_a_token_model_are_one_row_a_token(triton: TritonServer) -> None:
    (response,) = await _infer(triton, _request("classify_tokens", TEXTS, ["logits"]))
    tensors = tensors_of(response)
    assert tensors.keys() == {"logits"}
    assert tensors["logits"].shape == (9, len(LABELS))
    expected = np.concatenate([expected_token_logits(text) for text in TEXTS])
    np.testing.assert_allclose(tensors["logits"], expected, atol=1e-4)


async def test_a_tokens_row_is_the_same_alone_and_in_any_company(triton: TritonServer) -> None:
    random = np.random.default_rng(11)
    texts = [random.integers(0, 64, int(random.integers(1, 120))).tolist() for _ in range(48)]
    alone = [
        tensors_of((await _infer(triton, _request("classify_tokens", [text], ["logits"])))[0])["logits"]
        for text in texts
    ]
    # Packed by the client, packed by the backend from requests at once, and both.
    for batches in ([texts], [[text] for text in texts], [texts[at : at + 6] for at in range(0, 48, 6)]):
        responses = await _infer(triton, *(_request("classify_tokens", batch, ["logits"]) for batch in batches))
        rows = np.concatenate([tensors_of(response)["logits"] for response in responses])
        np.testing.assert_allclose(rows, np.concatenate(alone), rtol=0, atol=1e-5)


async def test_token_types_reach_the_model(triton: TritonServer) -> None:
    request = _request("classify", TEXTS[:1], ["logits"])
    request.inputs.add(name="token_type_ids", datatype="INT32", shape=[3])
    request.raw_input_contents.append(np.array([0, 1, 1], np.int32).tobytes())
    (response,) = await _infer(triton, request)
    np.testing.assert_allclose(tensors_of(response)["logits"], [expected_logits(TEXTS[0], [0, 1, 1])], atol=1e-4)


async def test_many_requests_at_once_each_get_their_own_answer(triton: TritonServer) -> None:
    random = np.random.default_rng(5)
    texts = [random.integers(0, 64, int(random.integers(1, 200))).tolist() for _ in range(64)]
    responses = await _infer(triton, *(_request("embed", [text], ["embeddings"]) for text in texts))
    for text, response in zip(texts, responses, strict=True):
        np.testing.assert_allclose(
            tensors_of(response)["embeddings"][0], expected_hidden(text).mean(axis=0), rtol=1e-5, atol=1e-3
        )


@pytest.mark.parametrize(
    ("parameters", "outputs", "message"),
    [
        ({"pooling": "last"}, ["embeddings"], 'pooling is "last"; it must be mean, cls or max'),
        ({"poling": "cls"}, ["embeddings"], "poling is not a known parameter"),
        ({}, [], "outputs must name exactly one of embeddings and hidden_states"),
    ],
)
async def test_a_bad_request_gets_an_error_that_starts_with_the_status(
    triton: TritonServer, parameters: dict[str, Parameter], outputs: list[str], message: str
) -> None:
    error = await _error(triton, _request("embed", TEXTS, outputs, **parameters))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"[INVALID_ARGUMENT] {message}"


async def test_lengths_that_do_not_add_up_are_refused_by_name(triton: TritonServer) -> None:
    request = _request("embed", TEXTS, ["embeddings"])
    request.raw_input_contents[1] = np.array([3, 1, 4], np.int32).tobytes()
    error = await _error(triton, request)
    assert (error.details() or "").startswith("[INVALID_ARGUMENT] sequence_lengths")
