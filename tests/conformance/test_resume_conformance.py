"""The chat model of `make serve` goes on after an interruption with the very tokens that it would have given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest

from services.common.tokenizer import TextTokenizer
from tests.support.models import demo_model, repository_of
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream, Parameter

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

MAX_TOKENS = 32
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
)
CASES: dict[str, dict[str, Parameter]] = {
    "greedy": {"ignore_eos": True},
    "seeded": {"temperature": 1.0, "seed": 7, "runtime_top_p": 0.95, "ignore_eos": True},
    "penalties": {
        "temperature": 1.0,
        "seed": 5,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.4,
        "ignore_eos": True,
    },
    "guided": {
        "temperature": 1.0,
        "seed": 3,
        "guided_decoding_guide_type": "json_schema",
        "guided_decoding_guide": SCHEMA,
    },
}


@pytest.fixture(scope="module")
def triton() -> Iterator[TritonServer]:
    with run_triton(repository_of([demo_model("chat")], "resume")) as server:
        yield server


@pytest.mark.parametrize("case", CASES)
async def test_it_goes_on_with_the_same_bits_from_every_token(triton: TritonServer, case: str) -> None:
    parameters = {"return_log_probs": True, **CASES[case]}
    prompt = _prompt()
    async with InferStream(triton.grpc_address) as stream:
        whole = await stream.generate("chat", "whole", prompt, MAX_TOKENS, use_prefix_cache=False, **parameters)
        assert len(whole.tokens) > 8
        counts = range(len(whole.tokens))
        rests = await asyncio.gather(
            *(
                stream.generate(
                    "chat",
                    f"rest{count}",
                    prompt + whole.tokens[:count],
                    MAX_TOKENS,
                    resumed_tokens=count,
                    use_prefix_cache=count % 2 == 0,
                    **parameters,
                )
                for count in counts
            )
        )
    log_probs = whole.joined("output_log_probs")
    for count, rest in zip(counts, rests, strict=True):
        assert rest.tokens == whole.tokens[count:], count
        assert np.array_equal(rest.joined("output_log_probs"), log_probs[count:]), count
        assert rest.finish_reason == whole.finish_reason


def _prompt() -> list[int]:
    tokenizer = TextTokenizer.from_bytes((demo_model("chat") / "tokenizer.json").read_bytes(), "tokenizer.json")
    return tokenizer.encode_ids("Describe the city of Paris, as JSON, with the number of people who live there.")
