"""Task "generate" through a real tritonserver: tokens, stop messages, errors, log-probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.common.stream_request import StreamRequest
from services.common.triton_client import TritonChannel, TritonStream
from tests.component.conftest import DECODER, SLOW_DECODER
from tests.support.triton import TritonServer
from tests.support.triton_stream import (
    InferStream,
    Parameter,
    generate_request,
    infer_request,
    parameters_of,
    stop_message,
)
from tests.synthetic.make_decoder import DecoderSpec, expected_logits, expected_tokens

pytestmark = pytest.mark.component


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


@pytest.mark.parametrize("model", ["decoder", "decoder_int8"])
async def test_thirty_two_requests_on_one_stream_get_the_tokens_that_each_gets_alone(
    triton: TritonServer, model: str
) -> None:
    random = np.random.default_rng(3)
    prompts = [random.integers(1, 64, int(random.integers(1, 150))).tolist() for _ in range(32)]
    lengths = [int(random.integers(1, 90)) for _ in prompts]
    async with InferStream(triton.grpc_address) as stream:
        batched = await asyncio.gather(
            *(
                stream.generate(model, f"b{index}", prompt, length)
                for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
            )
        )
        for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            alone = await stream.generate(model, f"a{index}", prompt, length)
            assert alone.tokens == expected_tokens(DECODER, prompt, length)
            assert batched[index].tokens == alone.tokens
            assert batched[index].finish_reason == alone.finish_reason


async def test_the_final_response_says_how_the_request_ended_and_what_it_cost(triton: TritonServer) -> None:
    async with InferStream(triton.grpc_address) as stream:
        result = await stream.generate("decoder", "r", [5, 6, 7], 6, ignore_eos=True)
    assert result.finish_reason == "length"
    assert (result.final["prompt_tokens"], result.final["completion_tokens"]) == (3, 6)
    for name in ("cached_prompt_tokens", "queue_us", "prefill_us", "decode_us", "time_to_first_token_us"):
        value = result.final[name]
        assert isinstance(value, int)
        assert value >= 0
    assert "stop_token_id" not in result.final


async def test_a_stop_token_ends_the_request_and_is_named(triton: TritonServer) -> None:
    prompt = [9, 4]
    wanted = expected_tokens(DECODER, prompt, 20, ignore_eos=True)
    async with InferStream(triton.grpc_address) as stream:
        request = generate_request("decoder", "r", prompt, 20, ignore_eos=True)
        request.inputs.add(name="stop_token_ids", datatype="INT32", shape=[1])
        request.raw_input_contents.append(np.int32(wanted[4]).tobytes())
        await stream.send(request)
        result = await stream.rest("r")
    assert result.tokens == wanted[: wanted.index(wanted[4]) + 1]
    assert result.finish_reason == "stop"
    assert result.final["stop_token_id"] == wanted[4]


async def test_a_stop_message_ends_a_live_request_and_is_answered_by_itself(triton: TritonServer) -> None:
    async with InferStream(triton.grpc_address) as stream:
        await stream.send(generate_request("slow", "r", [1, 2, 3], 1000, ignore_eos=True))
        first = await stream.next_response("r")
        assert parameters_of(first.infer_response)["triton_final_response"] is False
        await stream.send(stop_message("slow", "r"))
        # Both final responses carry the same id: the empty one answers the stop message.
        ends = [await stream.rest("r"), await stream.rest("r")]
        answers = [end for end in ends if end.finish_reason is None]
        assert [set(answer.final) for answer in answers] == [{"triton_final_response"}]
        (cancelled,) = [end for end in ends if end.finish_reason is not None]
        assert cancelled.finish_reason == "cancelled"
        assert 0 < int(cancelled.final["completion_tokens"]) < 1000
        # The id is free again.
        assert (await stream.generate("slow", "r", [1], 1)).finish_reason in ("length", "stop")


async def test_a_stop_message_for_an_id_that_is_not_live_is_answered_and_does_nothing(triton: TritonServer) -> None:
    async with InferStream(triton.grpc_address) as stream:
        await stream.send(stop_message("decoder", "nobody"))
        answer = await stream.rest("nobody")
    assert answer.error_message == ""
    assert answer.final == {"triton_final_response": True}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": "hot"}, "temperature must be a number parameter"),
        ({"temprature": 0.5}, "temprature is not a known parameter"),
        ({"runtime_top_p": 1.5}, "top_p is 1.5; it must be over 0 and at most 1"),
        ({"seed": 1.5}, "seed must be an integer parameter"),
        ({"top_log_probs": 2**40}, "top_log_probs is 1099511627776; it must fit 32 bits"),
    ],
)
async def test_a_bad_parameter_ends_the_request_with_an_error_that_names_it(
    triton: TritonServer, parameters: dict[str, Parameter], message: str
) -> None:
    async with InferStream(triton.grpc_address) as stream:
        result = await stream.generate("decoder", "r", [1], 4, **parameters)
    assert result.error_message == ""
    assert (result.finish_reason, result.final["error_code"]) == ("error", "INVALID_ARGUMENT")
    assert result.final["error_message"] == message


async def test_an_id_that_is_live_is_refused_and_the_first_request_goes_on(triton: TritonServer) -> None:
    async with InferStream(triton.grpc_address) as stream:
        await stream.send(generate_request("slow", "r", [1, 2], 40, ignore_eos=True))
        await stream.next_response("r")
        await stream.send(generate_request("slow", "r", [1, 2], 40, ignore_eos=True))
        ends = [await stream.rest("r"), await stream.rest("r")]
    assert sorted(str(end.finish_reason) for end in ends) == ["error", "length"]
    (refused,) = [end for end in ends if end.finish_reason == "error"]
    assert refused.final["error_code"] == "INVALID_ARGUMENT"


async def test_a_request_that_triton_itself_refuses_does_not_harm_its_neighbours(triton: TritonServer) -> None:
    async with InferStream(triton.grpc_address) as stream:
        await stream.send(infer_request("decoder", "bad", {"input_ids": np.ones(2, np.float32)}))
        good = await stream.generate("decoder", "good", [3], 3)
        bad = await stream.rest("bad")
    assert "data-type is 'FP32'" in bad.error_message
    assert good.tokens == expected_tokens(DECODER, [3], 3)


async def test_integers_are_taken_where_numbers_are_wanted(triton: TritonServer) -> None:
    async with InferStream(triton.grpc_address) as stream:
        result = await stream.generate("decoder", "r", [3], 3, temperature=0, runtime_top_p=1)
    assert result.tokens == expected_tokens(DECODER, [3], 3)


async def test_log_probabilities_of_new_tokens_come_with_them(triton: TritonServer) -> None:
    prompt = [4, 8, 15]
    async with InferStream(triton.grpc_address) as stream:
        result = await stream.generate(
            "decoder", "r", prompt, 5, ignore_eos=True, return_log_probs=True, top_log_probs=3
        )
    assert len(result.tokens) == 5
    history = prompt + result.tokens
    rows = _log_softmax(expected_logits(DECODER, history))[len(prompt) - 1 : -1]
    np.testing.assert_allclose(result.joined("output_log_probs"), rows[range(5), result.tokens], atol=1e-4)
    assert result.joined("top_log_prob_ids").shape == (5, 3)
    np.testing.assert_allclose(result.joined("top_log_prob_values"), -np.sort(-rows, axis=1)[:, :3], atol=1e-4)


async def test_a_prompt_can_be_scored_without_any_new_token(triton: TritonServer) -> None:
    prompt = [4, 8, 15, 16, 23, 42]
    async with InferStream(triton.grpc_address) as stream:
        result = await stream.generate("decoder", "r", prompt, 0, return_context_log_probs=True, top_log_probs=2)
    assert result.tokens == []
    rows = _log_softmax(expected_logits(DECODER, prompt))[:-1]
    np.testing.assert_allclose(result.joined("context_log_probs"), rows[range(5), prompt[1:]], atol=1e-4)
    assert result.joined("context_top_ids").shape == (5, 2)
    assert result.joined("context_top_values").shape == (5, 2)


class CountingStream(TritonStream):
    """Notes how many tokens came in each response for many."""

    def __init__(self, channel: TritonChannel) -> None:
        super().__init__(channel, max_buffered=1000)
        self.delta_counts: list[int] = []

    def _dispatch_deltas(self, response: Any) -> None:
        self.delta_counts.append(response.parameters["delta_count"].int64_param)
        super()._dispatch_deltas(response)


@pytest.fixture
async def service_stream(triton: TritonServer) -> AsyncIterator[CountingStream]:
    channel = TritonChannel(triton.grpc_address, retry_after_ms=500)
    stream = CountingStream(channel)
    stream.start()
    await asyncio.sleep(0)  # its task opens it
    yield stream
    await stream.close()
    await channel.close()


async def _sequences(request: StreamRequest, stop_after: int | None) -> dict[int, list[int]]:
    """The tokens of each sequence; checks that no reply was missed, doubled or out of its order."""
    tokens: dict[int, list[int]] = {}
    ended = False
    while not ended:
        for reply in await request.next_replies():
            own = tokens.setdefault(reply.sequence_index, [])
            assert reply.first_token == len(own)
            own += reply.token_ids
            assert "finish_reason" not in reply.parameters or reply.parameters["completion_tokens"] == len(own)
            ended |= reply.final
        if stop_after is not None and sum(map(len, tokens.values())) >= stop_after:
            request.stop()
    return tokens


@pytest.mark.parametrize(("model", "spec"), [("decoder", DECODER), ("slow", SLOW_DECODER)])
async def test_tokens_that_requests_send_for_each_other_are_those_that_each_gets_alone(
    service_stream: CountingStream, model: str, spec: DecoderSpec
) -> None:
    random = np.random.default_rng(5)
    prompts = [random.integers(1, 64, int(random.integers(1, 40))).tolist() for _ in range(24)]
    lengths = [int(random.integers(1, 60)) for _ in prompts]
    stops = [int(random.integers(1, 30)) if index % 4 == 3 else None for index in range(24)]

    async def run(index: int) -> dict[int, list[int]]:
        await asyncio.sleep(index * 0.002)  # so that they begin and end in different steps
        parameters = {"request_output_len": lengths[index], "num_return_sequences": 1 + index % 3, "ignore_eos": True}
        inputs = {"input_ids": np.array(prompts[index], np.int32)}
        return await _sequences(service_stream.submit(model, inputs, parameters), stops[index])

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*map(run, range(24)))
    for index, sequences in enumerate(answers):
        wanted = expected_tokens(spec, prompts[index], lengths[index], ignore_eos=True)
        assert set(sequences) == set(range(1 + index % 3))
        for tokens in sequences.values():
            assert tokens == (wanted if stops[index] is None else wanted[: len(tokens)])
    assert max(service_stream.delta_counts) > 1
    assert service_stream.live_requests == 0


async def test_a_request_that_left_still_carries_the_tokens_of_others(service_stream: CountingStream) -> None:
    inputs = {"input_ids": np.array([1, 2, 3], np.int32)}
    first = service_stream.submit("slow", inputs, {"request_output_len": 1000, "ignore_eos": True})
    await first.next_replies()
    second = service_stream.submit("slow", inputs, {"request_output_len": 30, "ignore_eos": True})
    service_stream.forget(first)  # its responses go on: no stop message was sent
    async with asyncio.timeout(60):
        assert await _sequences(second, None) == {0: expected_tokens(SLOW_DECODER, [1, 2, 3], 30, ignore_eos=True)}
    service_stream.send_stop(first)
