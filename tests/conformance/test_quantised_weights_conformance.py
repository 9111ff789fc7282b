"""With 8-bit and 4-bit weights a request gets the same tokens, and the same bits of log-probability, in any company.

Products of quantised weights sum whole numbers, and attention and norms work row by row: nothing of a row depends on
what else is in the step. So here is no margin to ask for, as there is with float products.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exporters.options import ExportOptions, Weights
from exporters.pipeline import export_checkpoint
from tests.conformance.tiny_checkpoints import VOCABULARY_SIZE, save_tiny
from tests.support.engine_metrics import EngineMetrics
from tests.support.models import kv_block_bytes, link_model
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import Generation, InferStream, Parameter

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

WEIGHTS: tuple[Weights, ...] = ("int8", "int4")
REQUESTS = 32
PLAIN: dict[str, Parameter] = {
    "ignore_eos": True, "use_prefix_cache": False, "max_draft_tokens": 0, "return_log_probs": True
}  # fmt: skip
REUSING: dict[str, Parameter] = {**PLAIN, "use_prefix_cache": True, "max_draft_tokens": 8}
# The longest job needs 11 blocks of 16 tokens.
TIGHT_BLOCKS = 16


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A tiny llama in both precisions, each with room for all, and short of blocks and of tokens a step."""
    folder = tmp_path_factory.mktemp("quantised")
    checkpoint = save_tiny(folder / "checkpoint", "llama", "generate", hidden_size=128, intermediate_size=256)
    repository: Path = folder / "repository"
    for weights in WEIGHTS:
        export_checkpoint(ExportOptions(str(checkpoint), weights, repository, weights=weights))
        tight = str(TIGHT_BLOCKS * kv_block_bytes(repository / weights))
        parameters = {"kv_cache_bytes": tight, "max_step_tokens": "16"}
        link_model(repository / weights, repository, f"{weights}_tight", parameters)
    with run_triton(repository) as server:
        yield server


def _jobs() -> list[tuple[list[int], int]]:
    """Prompts and numbers of new tokens; half of the prompts begin alike."""
    chance = np.random.default_rng(11)
    shared = chance.integers(3, VOCABULARY_SIZE, 40).tolist()
    jobs = []
    for number in range(REQUESTS):
        own = chance.integers(3, VOCABULARY_SIZE, int(chance.integers(1, 90))).tolist()
        jobs.append((shared + own if number % 2 else own, int(chance.integers(1, 40))))
    return jobs


async def _together(stream: InferStream, model: str, parameters: dict[str, Parameter]) -> list[Generation]:
    return await asyncio.gather(
        *(
            # Later ones push out earlier ones where blocks are short.
            stream.generate(model, f"{number}", prompt, new_tokens, **{**parameters, "request_priority": number})
            for number, (prompt, new_tokens) in enumerate(_jobs())
        )
    )


def _assert_same(got: list[Generation], wanted: list[Generation]) -> None:
    for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
        assert one.tokens == other.tokens, f"request {number}"
        assert np.array_equal(one.joined("output_log_probs"), other.joined("output_log_probs")), f"request {number}"


@pytest.mark.parametrize("weights", WEIGHTS)
async def test_the_same_bits_alone_and_among_31_others(triton: TritonServer, weights: str) -> None:
    async with InferStream(triton.grpc_address) as stream:
        alone = [await stream.generate(weights, "alone", prompt, new, **PLAIN) for prompt, new in _jobs()]
        _assert_same(await _together(stream, weights, PLAIN), alone)
        _assert_same(await _together(stream, weights, REUSING), alone)
        again = await _together(stream, weights, REUSING)
        _assert_same(again, alone)
        _assert_same(await _together(stream, f"{weights}_tight", REUSING), alone)
    assert max(one.number("cached_prompt_tokens") for one in again) >= 32
    tight = EngineMetrics.parse(triton.metrics(), f"{weights}_tight")
    assert tight.total("naiad_num_preemptions_total") > 0
    assert tight.blocks("used") == 0
