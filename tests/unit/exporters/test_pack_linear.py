"""Weights in 4 and 8 bits: what packing keeps exactly, and how far off the rest comes out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from exporters.pack_linear import WIDE_BLOCK_INPUTS, pack, unpack

Floats = npt.NDArray[np.float32]


def _through(weight: Floats, bits: Literal[4, 8]) -> Floats:
    result: Floats = unpack(pack(weight, bits), weight.shape[0], weight.shape[1], bits)
    return result


def _half(values: npt.NDArray[np.float64]) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def _grid(seed: int, lowest_code: int, highest_code: int) -> Floats:
    """[96, 40] weights, each block of 32 on a grid of its own: scale * code + minimum, with halves for both."""
    random = np.random.default_rng(seed)
    scales = _half(random.uniform(0.5, 1.5, (3, 1, 40)))
    minimums = _half(random.uniform(-9.0, -6.0, (3, 1, 40)))
    codes = random.integers(lowest_code, highest_code + 1, (3, 32, 40)).astype(np.float32)
    codes[:, 0], codes[:, 1] = lowest_code, highest_code
    return (codes * scales + minimums).reshape(96, 40)


@pytest.mark.parametrize("exponent", [-30, -10, 0, 30])
@pytest.mark.parametrize(("lowest_code", "highest_code"), [(0, 15), (0, 9), (0, 1)])
def test_four_bits_keep_a_grid_with_minimums_exactly(exponent: int, lowest_code: int, highest_code: int) -> None:
    weight = _grid(3, lowest_code, highest_code) * np.float32(2.0**exponent)
    np.testing.assert_allclose(_through(weight, 4), weight, rtol=0, atol=1e-6 * np.abs(weight).max())


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_four_bits_keep_a_symmetric_grid_that_reaches_one_end_only(sign: float) -> None:
    random = np.random.default_rng(4)
    codes = random.integers(-7, 6, (2, 32, 16)).astype(np.float32)
    codes[:, 5] = -8
    weight = (codes * _half(random.uniform(0.01, 0.02, (2, 1, 16))) * np.float32(sign)).reshape(64, 16)
    np.testing.assert_allclose(_through(weight, 4), weight, rtol=0, atol=1e-7)


def test_eight_bits_keep_a_symmetric_grid_exactly() -> None:
    random = np.random.default_rng(5)
    codes = random.integers(-127, 128, (2, 32, 16)).astype(np.float32)
    codes[:, 7] = 127
    weight = (codes * _half(random.uniform(0.001, 0.002, (2, 1, 16)))).reshape(64, 16)
    np.testing.assert_array_equal(_through(weight, 8), weight)


@pytest.mark.parametrize(("bits", "steps"), [(4, 15), (8, 254)])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (31, 15), (33, 17), (100, 64)])
def test_other_weights_come_out_within_one_step_whatever_the_shape(
    bits: Literal[4, 8], steps: int, inputs: int, outputs: int
) -> None:
    weight = np.random.default_rng(6).normal(size=(inputs, outputs)).astype(np.float32)
    step = 2 * np.abs(weight).max() / steps
    np.testing.assert_allclose(_through(weight, bits), weight, rtol=0, atol=1.5 * step)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0, 1e-30, 1e30])
def test_constant_blocks_are_no_special_case(bits: Literal[4, 8], value: float) -> None:
    weight = np.full((40, 20), value, np.float32)
    np.testing.assert_allclose(_through(weight, bits), weight, rtol=1e-3)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (127, 15), (129, 17), (300, 64)])
def test_wide_blocks_come_out_within_one_step_whatever_the_shape(inputs: int, outputs: int) -> None:
    weight = np.random.default_rng(6).normal(size=(inputs, outputs)).astype(np.float32)
    packed = pack(weight, 8, WIDE_BLOCK_INPUTS)
    assert packed.packed.shape == (-(-outputs // 16), -(-inputs // 128) * 2112)
    step = np.abs(weight).max() / 127
    np.testing.assert_allclose(unpack(packed, inputs, outputs, 8, WIDE_BLOCK_INPUTS), weight, rtol=0, atol=0.51 * step)


@pytest.mark.parametrize(("bits", "block_bytes"), [(4, 320), (8, 544)])
def test_the_layout_is_tiles_of_blocks(bits: Literal[4, 8], block_bytes: int) -> None:
    assert pack(np.ones((33, 17), np.float32), bits).packed.shape == (2, 2 * block_bytes)
