// How 4-bit codes become bfloat16 where a tile unit multiplies them (LinearMath::Bf16Tiles): as floats, of which the
// lower half is cut off, since that costs an instruction for two weights where rounding costs several.
//
//   weight = fma(base + code, scale, fma(-base, scale, minimum))
//
// with base 256 for the first 16 inputs of a block and 16 for the others: then base + code is a float whose bits are
// those of the code, where they lie in a byte of the packed weights, beside a constant. Scale and minimum have been
// multiplied by kBf16CutFactor.
#pragma once

namespace naiad {

// Cutting takes half of the last bit on average. What share of a number that is depends on the number; if its logarithm
// is evenly spread, 2^-8 / (2 ln 2) on average.
inline constexpr float kBf16CutFactor = 1.0F + 0.72134752F / 256.0F;
inline constexpr float kBf16LowBase = 256.0F;
inline constexpr float kBf16HighBase = 16.0F;

}  // namespace naiad
