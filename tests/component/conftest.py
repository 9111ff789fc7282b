"""One tritonserver with synthetic models for all component tests that only send requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.triton import TritonServer, run_triton
from tests.synthetic.make_decoder import DecoderSpec, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

DECODER = DecoderSpec()
# Slow enough that a request of a thousand tokens is surely alive when the next message comes.
SLOW_DECODER = DecoderSpec(context_length_tokens=1024, num_layers=24)


@pytest.fixture(scope="session")
def synthetic_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Entries decoder, decoder_int8 (the same tokens over an 8-bit KV cache), slow, and one a task of encoders."""
    folder = tmp_path_factory.mktemp("synthetic_repository")
    threads = {"intra_op_threads": "1"}
    make_decoder(folder, "decoder", DECODER, threads)
    make_decoder(folder, "decoder_int8", replace(DECODER, kv_cache_type="int8"), threads)
    make_decoder(folder, "slow", SLOW_DECODER, threads)
    make_encoder(folder, "embed", EncoderSpec(task="embed"), threads)
    make_encoder(folder, "classify", EncoderSpec(task="classify"), threads)
    make_encoder(folder, "classify_tokens", EncoderSpec(task="classify_tokens"), threads)
    return folder


@pytest.fixture(scope="session")
def triton(synthetic_repository: Path) -> Iterator[TritonServer]:
    """A server with all of them loaded."""
    with run_triton(synthetic_repository) as server:
        yield server
