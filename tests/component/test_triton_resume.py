"""A generation that was interrupted goes on in a real tritonserver as if nothing had happened."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.common.triton_client import TritonChannel, TritonStream
from tests.component.conftest import DECODER
from tests.support.triton import TritonServer
from tests.support.triton_stream import Generation, InferStream, Parameter
from tests.synthetic.make_decoder import expected_tokens

pytestmark = pytest.mark.component

MODELS = ("decoder", "decoder_int8")
PROMPT = [9, 4, 33, 12, 7, 7, 50, 2, 41, 30, 18, 5, 61, 3, 22, 9, 10, 11]
MAX_TOKENS = 40
CASES: dict[str, dict[str, Parameter]] = {
    "greedy": {"ignore_eos": True},
    "seeded": {"temperature": 2.0, "seed": 7, "runtime_top_k": 20, "runtime_top_p": 0.95, "ignore_eos": True},
    "penalties": {
        "temperature": 1.5,
        "seed": 5,
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.4,
        "ignore_eos": True,
    },
    "min_tokens": {"temperature": 1.5, "seed": 11, "min_tokens": 15},
}


async def _rest_of(stream: InferStream, model: str, whole: Generation, count: int, case: str) -> Generation:
    """What follows the first `count` tokens."""
    return await stream.generate(
        model,
        f"{case}{count}",
        PROMPT + whole.tokens[:count],
        MAX_TOKENS,
        resumed_tokens=count,
        return_log_probs=True,
        **CASES[case],
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", CASES)
async def test_it_goes_on_as_if_it_had_never_been_interrupted(triton: TritonServer, model: str, case: str) -> None:
    async with InferStream(triton.grpc_address) as stream:
        whole = await stream.generate(model, "whole", PROMPT, MAX_TOKENS, return_log_probs=True, **CASES[case])
        if case == "greedy":
            assert whole.tokens == expected_tokens(DECODER, PROMPT, MAX_TOKENS, ignore_eos=True)
        assert len(whole.tokens) >= 15
        counts = range(len(whole.tokens))
        rests = await asyncio.gather(*(_rest_of(stream, model, whole, count, case) for count in counts))
    log_probs = whole.joined("output_log_probs")
    for count, rest in zip(counts, rests, strict=True):
        assert rest.tokens == whole.tokens[count:], count
        assert np.array_equal(rest.joined("output_log_probs"), log_probs[count:]), count
        assert rest.finish_reason == whole.finish_reason
        assert rest.number("prompt_tokens") == len(PROMPT)
        assert rest.number("completion_tokens") == len(whole.tokens)


async def test_each_of_several_sequences_goes_on_by_itself(triton: TritonServer) -> None:
    sampled: dict[str, Parameter] = {"temperature": 2.0, "seed": 3, "ignore_eos": True}
    async with InferStream(triton.grpc_address) as stream:
        whole = await stream.generate_many("decoder", "whole", PROMPT, 20, num_return_sequences=3, **sampled)
        for index, sequence in enumerate(whole):
            resumed: dict[str, Parameter] = {"resumed_tokens": 6, "resumed_sequence": index, **sampled}
            rest = await stream.generate("decoder", f"r{index}", PROMPT + sequence.tokens[:6], 20, **resumed)
            assert rest.tokens == sequence.tokens[6:]
    assert len({tuple(sequence.tokens) for sequence in whole}) == 3


async def test_common_responses_count_the_tokens_of_the_earlier_run(triton: TritonServer) -> None:
    wanted = expected_tokens(DECODER, PROMPT, MAX_TOKENS, ignore_eos=True)
    channel = TritonChannel(triton.grpc_address, retry_after_ms=500)
    stream = TritonStream(channel, max_buffered=1000)
    stream.start()
    await asyncio.sleep(0)  # its task opens it
    inputs = {"input_ids": np.array(PROMPT + wanted[:10], np.int32)}
    parameters = {"request_output_len": MAX_TOKENS, "resumed_tokens": 10, "ignore_eos": True}
    request = stream.submit("decoder", inputs, parameters)
    tokens = wanted[:10]
    ended = False
    async with asyncio.timeout(30):
        while not ended:
            for reply in await request.next_replies():
                assert reply.first_token == len(tokens)
                tokens += reply.token_ids
                ended |= reply.final
    assert tokens == wanted
    await stream.close()
    await channel.close()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resumed_tokens": -1}, "resumed_tokens is -1; it must be from 0 to 17"),
        ({"resumed_tokens": 18}, "resumed_tokens is 18; it must be from 0 to 17"),
        ({"resumed_tokens": 5, "request_output_len": 5}, "resumed_tokens is 5; it must be less than max_tokens, 5"),
        ({"resumed_sequence": 16}, "resumed_sequence is 16; it must be from 0 to 15"),
        (
            {"resumed_tokens": 1, "num_return_sequences": 2},
            "num_sequences must be 1 in a request that is resumed",
        ),
        (
            {"resumed_tokens": 1, "return_context_log_probs": True},
            "resumed_tokens does not go with log-probabilities of the context",
        ),
    ],
)
async def test_what_cannot_be_resumed_is_refused(
    triton: TritonServer, parameters: dict[str, Parameter], message: str
) -> None:
    max_tokens = int(parameters.pop("request_output_len", 20))
    async with InferStream(triton.grpc_address) as stream:
        result = await stream.generate("decoder", "r", PROMPT, max_tokens, **parameters)
    assert (result.finish_reason, result.final["error_code"]) == ("error", "INVALID_ARGUMENT")
    assert result.final["error_message"] == message
