"""Whatever company, cache, budget, fork, guess or stop: each sequence gets the tokens that are its own, none leaks.

The synthetic decoders say what is right: greedy tokens have a closed form, sampled ones are drawn alone first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_metrics import EngineMetrics
from tests.support.models import kv_block_bytes
from tests.support.seeds import sequence_seed
from tests.support.traffic import Job, TrafficShape, random_jobs, run_jobs
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import Generation, InferStream
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder

pytestmark = [pytest.mark.component, pytest.mark.timeout(300)]

# Few tokens to choose from: texts repeat by chance, so guessed tokens are accepted now and then. Layers enough that
# stop messages find their requests alive.
SPEC = DecoderSpec(vocabulary_size=8, context_length_tokens=256, num_layers=12, eos_id=0)
TRAFFIC = TrafficShape(vocabulary_size=8)
_ROOMY = {"intra_op_threads": "1", "max_step_tokens": "256", "kv_cache_bytes": str(1 << 26)}
# The longest job needs 12 blocks of 16 tokens, and has up to three siblings.
_TIGHT_BLOCKS = 20
_CROWD = 110  # Of the jobs.


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """The same decoder in engines that are short of blocks, of tokens a step, of both, and of nothing."""
    folder: Path = tmp_path_factory.mktemp("engines")
    tight = str(_TIGHT_BLOCKS * kv_block_bytes(make_decoder(folder, "roomy", SPEC, _ROOMY)))
    make_decoder(folder, "tight", SPEC, {**_ROOMY, "kv_cache_bytes": tight})
    make_decoder(folder, "small_steps", SPEC, {**_ROOMY, "max_step_tokens": "8"})
    make_decoder(folder, "tight_small_steps", SPEC, {**_ROOMY, "kv_cache_bytes": tight, "max_step_tokens": "8"})
    make_decoder(folder, "few_places", SPEC, {**_ROOMY, "max_active_requests": "4", "max_draft_tokens": "8"})
    with run_triton(folder) as server:
        yield server


async def _wanted(stream: InferStream, job: Job) -> list[list[int]]:
    """What each sequence of the job must say if nobody stops it."""
    if "seed" not in job.parameters:
        ignore_eos = bool(job.parameters["ignore_eos"])
        return [expected_tokens(SPEC, job.prompt, job.max_tokens, ignore_eos)] * job.sequences
    plain = {"num_return_sequences": 1, "use_prefix_cache": False, "max_draft_tokens": 0}
    alone = []
    for index in range(job.sequences):
        parameters = {**job.parameters, **plain, "seed": sequence_seed(job.seed, index)}
        alone.append(await stream.generate("roomy", "alone", job.prompt, job.max_tokens, **parameters))
    return [generation.tokens for generation in alone]


def _assert_is_right(job: Job, wanted: list[list[int]], got: list[Generation]) -> None:
    assert len(got) == job.sequences
    for tokens, generation in zip(wanted, got, strict=True):
        if generation.finish_reason == "cancelled":
            assert job.stop_after_responses is not None
            assert generation.tokens == tokens[: len(generation.tokens)]
        else:
            assert generation.finish_reason in ("stop", "length"), generation.final
            assert generation.tokens == tokens
        assert generation.number("completion_tokens") == len(generation.tokens)
        assert generation.number("prompt_tokens") == len(job.prompt)


@pytest.mark.parametrize("model", ["roomy", "tight", "small_steps", "tight_small_steps", "few_places"])
async def test_random_traffic_gets_the_tokens_that_each_request_gets_alone(engines: TritonServer, model: str) -> None:
    jobs = random_jobs(150, TRAFFIC, seed=len(model))
    async with InferStream(engines.grpc_address) as stream:
        wanted = [await _wanted(stream, job) for job in jobs]
        before = EngineMetrics.parse(engines.metrics(), model)
        got = await run_jobs(stream, model, jobs[:_CROWD], in_flight=24)
        # In a crowd the small steps have no room for guesses.
        got += await run_jobs(stream, model, jobs[_CROWD:], in_flight=3)
        after = EngineMetrics.parse(engines.metrics(), model)
    for job, tokens, generations in zip(jobs, wanted, got, strict=True):
        _assert_is_right(job, tokens, generations)
    # The traffic did what it was made for.
    reasons = [generation.finish_reason for generations in got for generation in generations]
    assert {"stop", "length", "cancelled"} <= set(reasons)
    moved = {name: after.total(name) - before.total(name) for name in after.names()}
    assert moved["naiad_prefix_cache_hit_tokens_total"] > 0
    assert moved["naiad_spec_decode_num_accepted_tokens_total"] > 0
    if model.startswith("tight"):
        assert moved["naiad_num_preemptions_total"] > 0
    # Nothing is left.
    assert after.unfinished == 0
    assert after.blocks("used") == 0
    assert after.ended - before.ended == sum(job.sequences for job in jobs)
    assert moved["naiad_request_failure_total"] == 0
