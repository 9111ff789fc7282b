"""Rounds a weight matrix to 4 or 8 bits and packs it in the layout that naiad::Linear reads as it is.

The layout is described in core/kernels/linear_layout.h: tiles of 16 outputs, in them blocks of 32 inputs, each block
its codes and then a scale (and for 4 bits a minimum) for each output, as halves. A weight stands for
`factor * (scale * code + minimum)`, with one power of two as the factor of the whole matrix, which keeps the halves
where they are exact. Weights that lie on such a grid already, as those of most GGUF files do, come out unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

TILE_OUTPUTS = 16
BLOCK_INPUTS = 32
# With 8 bits only: blocks that spare a quarter of the arithmetic, with float scales.
WIDE_BLOCK_INPUTS = 128
# Where the largest scale or minimum goes, so that it neither overflows a half (65504) nor loses bits (below 2^-14).
_LARGEST_HALF_EXPONENT = 14
# Rounding in float32 moves a weight that lies on a grid by less than this share of its block's largest one.
_ON_GRID = 1e-6
# Ranges that are tried for a block without a grid, as shares of its own; and how often each is fitted to its codes.
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
_REFITS = 2
_SAMPLE_INPUTS = 4


@dataclass(frozen=True)
class PackedWeight:
    """packed: uint8 [tiles, bytes of a tile]. factor: multiplies every scale and minimum; a power of two."""

    packed: Any
    factor: float


def pack(weight: Any, bits: Literal[4, 8], block_inputs: int = BLOCK_INPUTS) -> PackedWeight:
    """Packs a float matrix [K, N] in blocks of BLOCK_INPUTS or, with 8 bits, WIDE_BLOCK_INPUTS."""
    import numpy as np
    import torch

    inputs, outputs = weight.shape
    blocks, tiles = -(-inputs // block_inputs), -(-outputs // TILE_OUTPUTS)
    values = torch.from_numpy(np.array(weight.T, dtype=np.float32))
    # The last value of a row is repeated to fill its block: that widens no range, and is multiplied by zeros.
    padding = values[:, -1:].expand(-1, blocks * block_inputs - inputs)
    values = torch.cat([values, padding], dim=1).reshape(outputs, blocks, block_inputs)
    factor = _factor(float(values.abs().max()))
    is_wide = block_inputs == WIDE_BLOCK_INPUTS
    codes, scales, minimums = _round_int4(values / factor) if bits == 4 else _round_int8(values / factor, not is_wide)
    numbers = [scales] if bits == 8 else [scales, minimums]
    parts = [_tile_codes(_whole_tiles(codes.to(torch.uint8).numpy(), tiles), bits)]
    for number in numbers:
        stored = number.squeeze(-1) if is_wide else number.squeeze(-1).half()
        tiled = _whole_tiles(stored.numpy(), tiles).reshape(tiles, TILE_OUTPUTS, blocks)
        parts.append(np.ascontiguousarray(tiled.transpose(0, 2, 1)).view(np.uint8))
    return PackedWeight(np.concatenate(parts, axis=2).reshape(tiles, -1), factor)


def unpack(
    weight: PackedWeight, inputs: int, outputs: int, bits: Literal[4, 8], block_inputs: int = BLOCK_INPUTS
) -> Any:
    """What a packed matrix stands for: float [K, N]."""
    import numpy as np

    blocks, code_bytes = -(-inputs // block_inputs), 2 * block_inputs * bits
    data = weight.packed.reshape(weight.packed.shape[0], blocks, -1)
    codes = data[:, :, :code_bytes].reshape(-1, blocks, code_bytes // 64, TILE_OUTPUTS, 4)
    if bits == 4:
        codes = np.concatenate([codes & 15, codes >> 4], axis=2)
    codes = codes.transpose(0, 3, 1, 2, 4).reshape(-1, blocks, block_inputs)
    number = np.float32 if block_inputs == WIDE_BLOCK_INPUTS else np.float16
    halves = np.ascontiguousarray(data[:, :, code_bytes:]).view(number).astype(np.float32)
    halves = halves.reshape(-1, blocks, halves.shape[2] // TILE_OUTPUTS, TILE_OUTPUTS).transpose(2, 0, 3, 1)
    scales = halves[0].reshape(-1, blocks, 1)
    minimums = halves[1].reshape(-1, blocks, 1) if bits == 4 else -128 * scales
    matrix = weight.factor * (codes * scales + minimums)
    return matrix.reshape(matrix.shape[0], -1)[:outputs, :inputs].T


def _factor(largest: float) -> float:
    """The power of two that brings `largest` just below 2^_LARGEST_HALF_EXPONENT."""
    if largest == 0.0:
        return 1.0
    return math.ldexp(1.0, max(math.frexp(largest)[1] - _LARGEST_HALF_EXPONENT, -100))


def _whole_tiles(rows: Any, tiles: int) -> Any:
    import numpy as np

    return np.concatenate([rows, np.zeros((tiles * TILE_OUTPUTS - rows.shape[0], *rows.shape[1:]), rows.dtype)])


def _tile_codes(codes: Any, bits: Literal[4, 8]) -> Any:
    """uint8 [outputs, blocks, inputs] -> [tiles, blocks, 2 * inputs * bits]."""
    import numpy as np

    blocks, block_inputs = codes.shape[1:]
    vectors = codes.reshape(-1, TILE_OUTPUTS, blocks, block_inputs // 4, 4).transpose(0, 2, 3, 1, 4)
    if bits == 4:
        vectors = vectors[:, :, :4] | vectors[:, :, 4:] << 4
    return np.ascontiguousarray(vectors).reshape(-1, blocks, 2 * block_inputs * bits)


def _round_int8(values: Any, to_halves: bool) -> tuple[Any, Any, Any]:
    """Symmetric: codes are 128 more than -127 .. 127."""
    scales = values.abs().amax(-1, keepdim=True) / 127
    scales = scales.half().float() if to_halves else scales
    codes = (values / scales.clamp(min=1e-30)).round().clamp(-127, 127) + 128
    return codes, scales, None


def _round_int4(values: Any) -> tuple[Any, Any, Any]:
    """From the least to the largest value of each block; on the block's own grid if it has one, else with the least
    squared error that _fitted finds."""
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    best = _round_between(values, low, (high - low) / 15)
    for anchor, span, steps in _grids(low, high):
        rest = ~_on_grid(values, best)
        if not rest.any():
            break
        # Few blocks pass a look at some of their values, so that weights without a grid cost little time.
        sample = values[rest][..., :_SAMPLE_INPUTS]
        trial = _round_between(sample, anchor[rest], span[rest] / steps)
        rest[rest.clone()] = _on_grid(sample, trial, values[rest].abs().amax(-1))
        found = _round_between(values[rest], anchor[rest], span[rest] / steps)
        keep = _on_grid(values[rest], found)
        for whole, part in zip(best, found, strict=True):
            whole[rest] = part.where(keep[:, None], whole[rest])
    rest = ~_on_grid(values, best)
    for whole, part in zip(best, _fitted(values[rest], low[rest], high[rest]), strict=True):
        whole[rest] = part
    codes, scales, minimums = best
    return codes, scales, minimums


def _fitted(values: Any, low: Any, high: Any) -> list[Any]:
    """The best of some ranges, narrower ones too, each moved to where its own codes fit best."""
    import torch

    centre, half = (low + high) / 2, (high - low) / 2
    best: list[Any] = []
    for shrink in _SHRINKS:
        found = _round_between(values, centre - half * shrink, 2 * half * shrink / 15)
        for refit in range(_REFITS + 1):
            if refit:
                found = _round_between(values, *_least_squares(values, found))
            found_error = _error(values, found)
            if not best:
                best, error = found, found_error
                continue
            better = found_error < error
            best = [torch.where(better, new, old) for new, old in zip(found, best, strict=True)]
            error = torch.where(better, found_error, error)
    return best


def _least_squares(values: Any, rounded: list[Any]) -> tuple[Any, Any]:
    """Minimum and scale with the least squared error for the codes as they are."""
    codes, scales, _ = rounded
    mean_code, mean = codes.mean(-1, keepdim=True), values.mean(-1, keepdim=True)
    spread = codes - mean_code
    variance = spread.square().sum(-1, keepdim=True)
    scale = (spread * values).sum(-1, keepdim=True) / variance.clamp(min=1e-30)
    scale = scale.where(variance > 0, scales)
    return mean - scale * mean_code, scale


def _grids(low: Any, high: Any) -> list[tuple[Any, Any, int]]:
    """Anchor, signed span and steps of the grids that a block may lie on without reaching both of their ends."""
    upwards = [(low, high - low, steps) for steps in range(14, 0, -1)]
    downwards = [(high, low - high, steps) for steps in range(15, 0, -1)]
    return [*upwards, *downwards]


def _round_between(values: Any, anchor: Any, step: Any) -> list[Any]:
    scales, minimums = step.half().float(), anchor.half().float()
    safe = scales.where(scales.abs() > 0, scales.new_ones(()))
    codes = ((values - minimums) / safe).round().clamp(0, 15)
    return [codes, scales, minimums]


def _on_grid(values: Any, rounded: list[Any], largest: Any = None) -> Any:
    """Which blocks come out as they went in. largest: of the whole block, if `values` are only some of it."""
    codes, scales, minimums = rounded
    difference = (codes * scales + minimums - values).abs().amax(-1)
    return difference <= _ON_GRID * (values.abs().amax(-1) if largest is None else largest)


def _error(values: Any, rounded: list[Any]) -> Any:
    codes, scales, minimums = rounded
    return (codes * scales + minimums - values).square().sum(-1, keepdim=True)
