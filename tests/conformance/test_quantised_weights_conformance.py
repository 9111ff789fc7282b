"""With 8-bit and 4-bit weights, over either cache, a request gets the same tokens and log-probabilities in any company.

The same to the last bit: products of quantised weights sum whole numbers, and attention and norms work row by row, so
that nothing of a row depends on what else is in the step. So there is no margin here, as there is with float products.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exporters.options import ExportOptions, KvCacheChoice, Weights
from exporters.pipeline import export_checkpoint
from tests.conformance.tiny_checkpoints import VOCABULARY_SIZE, save_tiny
from tests.support.engine_metrics import EngineMetrics
from tests.support.models import kv_block_bytes, link_model
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import Generation, InferStream, Parameter

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

MODELS: dict[str, tuple[Weights, KvCacheChoice]] = {
    "int8": ("int8", "auto"),
    "int4": ("int4", "auto"),
    "int4_float_cache": ("int4", "float"),
}
REQUESTS = 32
PLAIN: dict[str, Parameter] = {
    "ignore_eos": True, "use_prefix_cache": False, "max_draft_tokens": 0, "return_log_probs": True
}  # fmt: skip
REUSING: dict[str, Parameter] = {**PLAIN, "use_prefix_cache": True, "max_draft_tokens": 8}
# The longest job needs 11 blocks of 16 tokens.
TIGHT_BLOCKS = 16


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A tiny llama in all of them, each with room for all, and short of blocks and of tokens a step."""
    folder = tmp_path_factory.mktemp("quantised")
    checkpoint = save_tiny(folder / "checkpoint", "llama", "generate", hidden_size=128, intermediate_size=256)
    repository: Path = folder / "repository"
    for name, (weights, kv_cache) in MODELS.items():
        export_checkpoint(ExportOptions(str(checkpoint), name, repository, weights=weights, kv_cache=kv_cache))
        tight = str(TIGHT_BLOCKS * kv_block_bytes(repository / name))
        parameters = {"kv_cache_bytes": tight, "max_step_tokens": "16"}
        link_model(repository / name, repository, f"{name}_tight", parameters)
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


@pytest.mark.parametrize("model", MODELS)
async def test_the_same_bits_alone_and_among_31_others(triton: TritonServer, model: str) -> None:
    async with InferStream(triton.grpc_address) as stream:
        alone = [await stream.generate(model, "alone", prompt, new, **PLAIN) for prompt, new in _jobs()]
        _assert_same(await _together(stream, model, PLAIN), alone)
        _assert_same(await _together(stream, model, REUSING), alone)
        again = await _together(stream, model, REUSING)
        _assert_same(again, alone)
        _assert_same(await _together(stream, f"{model}_tight", REUSING), alone)
    assert max(one.number("cached_prompt_tokens") for one in again) >= 32
    tight = EngineMetrics.parse(triton.metrics(), f"{model}_tight")
    assert tight.total("naiad_num_preemptions_total") > 0
    assert tight.blocks("used") == 0
