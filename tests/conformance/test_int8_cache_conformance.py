"""`chat` over an 8-bit KV cache: whatever the engine does with a request, its tokens are those that it gets alone.

They need not be those over a float cache. Prompts are such that the best token is clearly ahead of the second at every
position, which is checked: the float32 products around the cache depend on what is in the batch in their last bits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.engine_metrics import EngineMetrics
from tests.support.models import exact_chat, give_int8_cache, kv_block_bytes, link_model, linked_models
from tests.support.transformers_reference import CLEAR_MARGIN, TransformersReference
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import Generation, InferStream, Parameter

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]

NEW_TOKENS = 24
INSTRUCTION = "You answer questions in one short sentence, and never invent anything that you do not know.\n\n"
TEXTS = (
    INSTRUCTION + "Question: Name the capital of France.\nAnswer:",
    INSTRUCTION + "Question: At what temperature does water boil?\nAnswer:",
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday,",
)
PLAIN: dict[str, Parameter] = {"ignore_eos": True, "use_prefix_cache": False, "max_draft_tokens": 0}
ALL_AT_ONCE: dict[str, Parameter] = {"ignore_eos": True, "max_draft_tokens": 8, "num_return_sequences": 2}
# A prompt needs up to 3 blocks and one or two more for its new tokens and its second sequence.
TIGHT_BLOCKS = 7


@dataclass(frozen=True)
class Case:
    """A prompt and its continuation alone."""

    prompt: list[int]
    alone: Generation


@pytest.fixture(scope="module")
def triton() -> Iterator[TritonServer]:
    """The model with room for all, and with a step budget and a KV cache that two requests overfill."""
    with linked_models({"roomy": {"kv_cache_bytes": str(32 << 20)}}) as repository:
        give_int8_cache(repository / "roomy")
        tight = {"kv_cache_bytes": str(TIGHT_BLOCKS * kv_block_bytes(repository / "roomy")), "max_step_tokens": "16"}
        give_int8_cache(link_model(exact_chat(), repository, "tight", tight))
        with run_triton(repository) as server:
            yield server


@pytest.fixture(scope="module")
def prompts(transformers_reference: TransformersReference) -> list[list[int]]:
    """Token ids of all texts."""
    return [transformers_reference.encode(text) for text in TEXTS]


async def _cases(stream: InferStream, prompts: list[list[int]]) -> list[Case]:
    cases = []
    for prompt in prompts:
        alone = await stream.generate(
            "roomy", "alone", prompt, NEW_TOKENS, **PLAIN, return_log_probs=True, top_log_probs=2
        )
        best_two = alone.joined("top_log_prob_values")
        margin = float((best_two[:, 0] - best_two[:, 1]).min())
        assert margin > CLEAR_MARGIN, f"choose another prompt than {TEXTS[len(cases)]!r}"
        cases.append(Case(prompt, alone))
    return cases


async def _together(
    stream: InferStream, model: str, cases: list[Case], parameters: dict[str, Parameter], rounds: int = 1
) -> list[list[Generation]]:
    jobs = [(f"{turn}.{number}", case) for turn in range(rounds) for number, case in enumerate(cases)]
    return await asyncio.gather(
        *(stream.generate_many(model, name, case.prompt, NEW_TOKENS, **parameters) for name, case in jobs)
    )


def _tokens(answers: list[list[Generation]]) -> list[list[list[int]]]:
    return [[one.tokens for one in several] for several in answers]


async def test_alone_and_in_any_company(triton: TritonServer, prompts: list[list[int]]) -> None:
    async with InferStream(triton.grpc_address) as stream:
        cases = await _cases(stream, prompts)
        batched = await _together(stream, "roomy", cases, PLAIN)
        chunked = await _together(stream, "tight", cases, PLAIN)
        again = await _together(stream, "roomy", cases, ALL_AT_ONCE, rounds=2)
        short_of_blocks = await _together(stream, "tight", cases, ALL_AT_ONCE, rounds=2)
    wanted = [[case.alone.tokens] for case in cases]
    assert _tokens(batched) == wanted
    assert _tokens(chunked) == wanted
    assert _tokens(again) == _tokens(short_of_blocks) == [one * 2 for one in wanted] * 2
    assert max(one.number("cached_prompt_tokens") for several in again for one in several) >= 16
    roomy, tight = (EngineMetrics.parse(triton.metrics(), model) for model in ("roomy", "tight"))
    assert roomy.total("naiad_spec_decode_num_accepted_tokens_total") > 0
    assert tight.total("naiad_num_preemptions_total") > 0
    assert roomy.blocks("used") == tight.blocks("used") == 0


async def test_it_is_the_8_bit_cache_and_it_knows_what_the_float_cache_knows(
    triton: TritonServer, prompts: list[list[int]], transformers_reference: TransformersReference
) -> None:
    block_bytes = kv_block_bytes(exact_chat())
    metrics = EngineMetrics.parse(triton.metrics(), "roomy")
    blocks = sum(metrics.blocks(state) for state in ("used", "free", "cached"))
    assert blocks > 3.5 * (32 << 20) // block_bytes
    async with InferStream(triton.grpc_address) as stream:
        answers = [await stream.generate("roomy", "r", prompt, NEW_TOKENS, **PLAIN) for prompt in prompts]
    same = [
        mine == theirs
        for answer, prompt in zip(answers, prompts, strict=True)
        for mine, theirs in zip(
            answer.tokens, transformers_reference.greedy(prompt, NEW_TOKENS, ignore_eos=True).tokens, strict=True
        )
    ]
    # Rounding turns a near-tie now and then, and what follows it is another text.
    assert sum(same) > 0.6 * len(same)
