import pytest
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.generation_stack import CONTEXT_TOKENS, Stack, events_of


async def test_the_engine_is_told_every_option(stack: Stack) -> None:
    request = pb.GenerateRequest(
        model="chat",
        token_ids=common_pb2.TokenIds(ids=[5, 6]),
        sampling=pb.SamplingOptions(
            temperature=0.5, top_p=0.25, top_k=7, min_p=0.125, repetition_penalty=1.5, presence_penalty=-0.5,
            frequency_penalty=2, logit_bias={9: -100}, seed=2**64 - 1,
        ),
        stopping=pb.StoppingOptions(max_tokens=9, min_tokens=3, stop_token_ids=[8], ignore_eos=True),
        response=pb.ResponseOptions(logprobs=True, top_logprobs=2),
        priority=-100,
        use_prefix_cache=False,
    )  # fmt: skip
    await stack.stub.Generate(request)
    (seen,) = stack.fake.requests
    assert seen.inputs == {
        "input_ids": [5, 6],
        "stop_token_ids": [8],
        "logit_bias_ids": [9],
        "logit_bias_values": [-100],
    }
    assert seen.options == {
        "request_output_len": 9, "min_tokens": 3, "temperature": 0.5, "runtime_top_k": 7, "runtime_top_p": 0.25,
        "min_p": 0.125, "repetition_penalty": 1.5, "presence_penalty": -0.5, "frequency_penalty": 2.0, "seed": -1,
        "ignore_eos": True, "return_log_probs": True, "top_log_probs": 2,
        "request_priority": -100, "use_prefix_cache": False,
    }  # fmt: skip


async def test_the_engine_is_told_where_the_defaults_of_the_api_are_not_its_own(stack: Stack) -> None:
    await stack.stub.Generate(pb.GenerateRequest(model="chat", token_ids=common_pb2.TokenIds(ids=[5] * 150)))
    seen = stack.fake.requests[0]
    seed = seen.options["seed"]
    assert seen.options == {"temperature": 1.0, "request_output_len": CONTEXT_TOKENS - 150, "seed": seed}
    assert set(seen.inputs) == {"input_ids"}


async def test_a_greedy_request_needs_no_seed(stack: Stack) -> None:
    sampling = pb.SamplingOptions(temperature=0, seed=7)
    await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", sampling=sampling))
    assert set(stack.fake.requests[0].options) == {"request_output_len"}


@pytest.mark.parametrize(
    ("guide", "told"),
    [
        (pb.Guide(json_schema='{"type": "string"}'), ("json_schema", '{"type": "string"}')),
        (pb.Guide(json_schema="true"), ("json_schema", "true")),
        (pb.Guide(regex="[0-9]+"), ("regex", "[0-9]+")),
        (pb.Guide(json_object=True), ("json", None)),
    ],
)
async def test_the_engine_is_told_the_guide(stack: Stack, guide: pb.Guide, told: tuple[str, str | None]) -> None:
    await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", guide=guide))
    await events_of(stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x", guide=guide)))
    for seen in stack.fake.requests:
        parameters = seen.parameters
        assert (parameters["guided_decoding_guide_type"], parameters.get("guided_decoding_guide")) == told
