"""What an export is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EncoderTask = Literal["embed", "classify", "classify_tokens"]
Task = Literal["generate"] | EncoderTask
TaskChoice = Literal["auto"] | Task
Weights = Literal["fp32", "int8", "int4"]
WeightsChoice = Literal["auto", "fp32", "int8", "int4"]
KvCache = Literal["float", "int8"]
KvCacheChoice = Literal["auto", "float", "int8"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp16", "bf16"]

TASKS: tuple[TaskChoice, ...] = ("auto", "generate", "embed", "classify", "classify_tokens")
WEIGHTS: tuple[WeightsChoice, ...] = ("auto", "fp32", "int8", "int4")
KV_CACHES: tuple[KvCacheChoice, ...] = ("auto", "float", "int8")
DEVICES: tuple[Device, ...] = ("cpu", "cuda")
PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")

# Every version of ONNX Runtime's PagedAttention takes blocks of 256 tokens. Before 1.31 its kernel took only multiples
# of 256; later ones take any power of two from 16, but read blocks that are smaller than a tile in a slower way.
CUDA_BLOCK_TOKENS = 256

# Part of every entry: raised when the same checkpoint would be exported differently, so that old entries are redone.
EXPORTER_VERSION = 4


def no_progress(_phase: str, _seconds: float | None) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class CudaOptions:
    """precision: of weights, activations and cache. kv_block_tokens: positions in one block, a power of two."""

    precision: Precision = "fp16"
    kv_block_tokens: int = CUDA_BLOCK_TOKENS


@dataclass(frozen=True)
class ExportOptions:
    """One export.

    checkpoint: a directory with safetensors, a .gguf file, or a hub id.
    name: of the entry; letters, digits, '_' and '-'.
    weights: precision of the served weights; auto is the checkpoint's own (docs/decisions/0003-default-precision.md).
    kv_cache: how keys and values are kept; auto is int8 beside quantised weights, else float (same page).
    cuda: None for a graph that runs on the CPU.
    model_parameters: written to config.pbtxt as they are (docs/contracts.md section 1).
    on_phase: called with (phase, None) when a phase starts and (phase, seconds) when it ends.
    """

    checkpoint: str
    name: str
    repository: Path = Path("model_repository")
    task: TaskChoice = "auto"
    weights: WeightsChoice = "auto"
    kv_cache: KvCacheChoice = "auto"
    cuda: CudaOptions | None = None
    force: bool = False
    ops_library: Path | None = None
    model_parameters: dict[str, str] = field(default_factory=dict)
    source_hash: str | None = None
    on_phase: Callable[[str, float | None], None] = no_progress
