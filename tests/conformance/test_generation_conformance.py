"""Whatever the engine does with a request, its tokens are those of transformers in float32; sampled ones do not change.

The prompts are chosen so that the best token is ahead of the second by CLEAR_MARGIN at every position, which is
checked: float32 sums depend on their order, so a tie could be broken either way, and would prove nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.engine_metrics import EngineMetrics
from tests.support.models import exact_chat, kv_block_bytes, linked_models
from tests.support.seeds import sequence_seed
from tests.support.transformers_reference import CLEAR_MARGIN, TransformersReference
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import Generation, InferStream, Parameter, generate_request, stop_message

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]

NEW_TOKENS = 20
# 27 tokens: one full block of 16 that prompts share, and a part of the next.
_INSTRUCTION = (
    "You answer questions in one short sentence. Be polite, be exact, and never invent anything that you do not know "
    "for certain.\n\n"
)
SHARED_PREFIX = [
    _INSTRUCTION + "Question: What is the capital of France?\nAnswer:",
    _INSTRUCTION + "Question: What do bees make?\nAnswer:",
]
# transformers' own continuations repeat parts of these prompts, or themselves: prompt lookup finds drafts.
REPETITIVE = [
    _INSTRUCTION + "Question: At what temperature does water boil?\nAnswer:",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 3, 4, 5, 6, 7, 8,",
]
OTHERS = ["def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n\ndef mul(a, b):\n"]

_ROOMY_CACHE = {"kv_cache_bytes": str(96 << 20), "max_draft_tokens": "8"}
# A request needs up to 3 blocks for its prompt and one more for its new tokens.
_TIGHT_CACHE_BLOCKS = 5
BUDGETS = ("chat8", "chat64", "chat512")
VARIANTS = {name: {**_ROOMY_CACHE, "max_step_tokens": name.removeprefix("chat")} for name in BUDGETS}

GREEDY: dict[str, Parameter] = {"ignore_eos": True}
# Nothing is taken from the cache of earlier requests, and no drafts: each way of working is switched on by its test.
PLAIN: dict[str, Parameter] = {**GREEDY, "use_prefix_cache": False, "max_draft_tokens": 0}
SAMPLED: dict[str, Parameter] = {**PLAIN, "temperature": 0.9, "runtime_top_k": 50, "runtime_top_p": 0.95}


@dataclass(frozen=True)
class Case:
    """A prompt and what transformers says after it."""

    prompt: list[int]
    tokens: list[int]


@pytest.fixture(scope="module")
def triton() -> Iterator[TritonServer]:
    """`chat` with several step budgets, and with a KV cache that two requests overfill."""
    tight = {"kv_cache_bytes": str(_TIGHT_CACHE_BLOCKS * kv_block_bytes(exact_chat())), "max_draft_tokens": "8"}
    with linked_models({**VARIANTS, "tight": tight}) as repository, run_triton(repository) as server:
        yield server


def _cases(reference: TransformersReference, texts: list[str]) -> list[Case]:
    cases = []
    for text in texts:
        prompt = reference.encode(text)
        wanted = reference.greedy(prompt, NEW_TOKENS, ignore_eos=True)
        assert wanted.least_margin > CLEAR_MARGIN, f"choose another prompt than {text!r}"
        cases.append(Case(prompt, list(wanted.tokens)))
    return cases


@pytest.fixture(scope="module")
def cases(transformers_reference: TransformersReference) -> list[Case]:
    """All prompts."""
    return _cases(transformers_reference, SHARED_PREFIX + REPETITIVE + OTHERS)


async def _together(
    stream: InferStream, model: str, cases: list[Case], parameters: dict[str, Parameter]
) -> list[Generation]:
    return await asyncio.gather(
        *(
            stream.generate(model, f"together{number}", case.prompt, NEW_TOKENS, **parameters)
            for number, case in enumerate(cases)
        )
    )


def _tokens(generations: list[Generation]) -> list[list[int]]:
    return [generation.tokens for generation in generations]


def _wanted(cases: list[Case]) -> list[list[int]]:
    return [case.tokens for case in cases]


async def test_alone(triton: TritonServer, cases: list[Case]) -> None:
    async with InferStream(triton.grpc_address) as stream:
        done = [await stream.generate("chat512", "alone", case.prompt, NEW_TOKENS, **PLAIN) for case in cases]
    assert _tokens(done) == _wanted(cases)


@pytest.mark.parametrize("model", BUDGETS)
async def test_batched_with_any_step_budget(triton: TritonServer, cases: list[Case], model: str) -> None:
    async with InferStream(triton.grpc_address) as stream:
        assert _tokens(await _together(stream, model, cases, PLAIN)) == _wanted(cases)


async def _staggered(
    stream: InferStream, model: str, cases: list[Case], parameters: dict[str, Parameter], priority_step: int = 0
) -> list[Generation]:
    """Sends each request once the one before has its first token; each has a priority that much higher."""
    for number, case in enumerate(cases):
        more = {**parameters, "request_priority": number * priority_step}
        await stream.send(generate_request(model, f"{number}", case.prompt, NEW_TOKENS, **more))
        stream.put_back(await stream.next_response(f"{number}"))
    return [await stream.rest(f"{number}") for number in range(len(cases))]


async def test_staggered(triton: TritonServer, cases: list[Case]) -> None:
    async with InferStream(triton.grpc_address) as stream:
        assert _tokens(await _staggered(stream, "chat64", cases, PLAIN)) == _wanted(cases)


async def test_with_prefixes_from_the_cache(triton: TritonServer, cases: list[Case]) -> None:
    first, same_prefix = cases[: len(SHARED_PREFIX)]
    async with InferStream(triton.grpc_address) as stream:
        order = [first, first, same_prefix, same_prefix]
        done = [await stream.generate("chat512", "r", case.prompt, NEW_TOKENS, **GREEDY) for case in order]
        again = await _together(stream, "chat512", cases, GREEDY)
    assert _tokens(done) == _wanted(order)
    assert _tokens(again) == _wanted(cases)
    cached = [generation.number("cached_prompt_tokens") for generation in done]
    # All full blocks of a prompt that was seen, and those of the part that two prompts share.
    assert cached == [0, 32, 16, 32]
    assert all(generation.number("cached_prompt_tokens") >= 32 for generation in again[:2])


async def test_after_preemption(triton: TritonServer, cases: list[Case]) -> None:
    async with InferStream(triton.grpc_address) as stream:
        # There is room for one of the first two only, and the second goes first.
        done = await _staggered(stream, "tight", cases, PLAIN, priority_step=1)
        assert _tokens(done) == _wanted(cases)
        assert _tokens(await _together(stream, "tight", cases, PLAIN)) == _wanted(cases)
    metrics = EngineMetrics.parse(triton.metrics(), "tight")
    assert done[0].number("preemptions") > 0
    assert metrics.total("naiad_num_preemptions_total") > 0
    assert metrics.blocks("used") == 0


async def test_after_neighbours_are_stopped(triton: TritonServer, cases: list[Case]) -> None:
    neighbours = [f"neighbour{number}" for number in range(4)]
    async with InferStream(triton.grpc_address) as stream:
        for name in neighbours:
            await stream.send(generate_request("chat64", name, [7] * 33, 200, **PLAIN))
        working = asyncio.ensure_future(_together(stream, "chat64", cases, PLAIN))
        for name in neighbours:
            await stream.next_response(name)
            await stream.send(stop_message("chat64", name))
        ends = [await stream.rest(name) for name in neighbours for _ in range(2)]
        assert _tokens(await working) == _wanted(cases)
    assert [end.finish_reason for end in ends if end.finish_reason] == ["cancelled"] * 4


async def test_several_sequences_of_one_prompt(triton: TritonServer, cases: list[Case]) -> None:
    parameters = {**PLAIN, "num_return_sequences": 3}
    async with InferStream(triton.grpc_address) as stream:
        alone = await stream.generate_many("chat64", "alone", cases[0].prompt, NEW_TOKENS, **parameters)
        beside = await asyncio.gather(
            *(
                stream.generate_many("chat64", f"{number}", case.prompt, NEW_TOKENS, **parameters)
                for number, case in enumerate(cases)
            )
        )
    assert _tokens(alone) == [cases[0].tokens] * 3
    assert [_tokens(many) for many in beside] == [[case.tokens] * 3 for case in cases]


async def test_with_speculation(triton: TritonServer, cases: list[Case]) -> None:
    parameters = {**PLAIN, "max_draft_tokens": 8}
    async with InferStream(triton.grpc_address) as stream:
        before = EngineMetrics.parse(triton.metrics(), "chat512")
        alone = await stream.generate("chat512", "alone", cases[-2].prompt, NEW_TOKENS, **parameters)
        assert alone.tokens == cases[-2].tokens
        assert _tokens(await _together(stream, "chat512", cases, parameters)) == _wanted(cases)
        after = EngineMetrics.parse(triton.metrics(), "chat512")
    accepted = "naiad_spec_decode_num_accepted_tokens_total"
    assert after.total(accepted) > before.total(accepted)


async def test_everything_at_once(triton: TritonServer, cases: list[Case]) -> None:
    """Speculation, prefixes from the cache, several sequences and preemption."""
    parameters = {**GREEDY, "max_draft_tokens": 8, "num_return_sequences": 2}
    async with InferStream(triton.grpc_address) as stream:
        done = await asyncio.gather(
            *(
                stream.generate_many("tight", f"{turn}.{number}", case.prompt, NEW_TOKENS, **parameters)
                for turn in range(2)
                for number, case in enumerate(cases)
            )
        )
    assert [_tokens(many) for many in done] == [[case.tokens] * 2 for case in cases] * 2
    assert EngineMetrics.parse(triton.metrics(), "tight").blocks("used") == 0


async def test_seeded_sampling_is_the_same_alone_batched_and_as_one_of_several(
    triton: TritonServer, cases: list[Case]
) -> None:
    seeds = [11, -5, 2**62, 0]
    jobs = [(cases[number % 3].prompt, seed) for number, seed in enumerate(seeds)]

    async def draw(stream: InferStream, name: str, job: tuple[list[int], int], **more: Parameter) -> list[list[int]]:
        parameters = {**SAMPLED, "seed": job[1], **more}
        return _tokens(await stream.generate_many("chat64", name, job[0], NEW_TOKENS, **parameters))

    async with InferStream(triton.grpc_address) as stream:
        alone = [await draw(stream, "alone", job) for job in jobs]
        batched = await asyncio.gather(*(draw(stream, f"batched{n}", job) for n, job in enumerate(jobs)))
        drafted = await asyncio.gather(
            *(draw(stream, f"drafted{n}", job, max_draft_tokens=8) for n, job in enumerate(jobs))
        )
        several = await draw(stream, "several", jobs[0], num_return_sequences=4)
        one_by_one = [
            (await draw(stream, f"{index}", (jobs[0][0], sequence_seed(jobs[0][1], index))))[0] for index in range(4)
        ]
    assert batched == alone
    assert drafted == alone
    assert several[0] == alone[0][0]
    assert several == one_by_one
    assert len({tuple(tokens) for tokens in several}) == 4
