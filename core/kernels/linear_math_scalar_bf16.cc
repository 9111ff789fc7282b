// The portable reference of what a tile unit does with bfloat16. Written to be read, not to be fast.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/bf16.h"
#include "kernels/linear_functions_scalar.h"
#include "kernels/linear_math.h"

namespace naiad {
namespace {

constexpr int32_t kBf16Bytes = 2;

float WithoutSubnormals(float x) {
  return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0F, x) : x;
}

float Cut(float x) { return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xffff0000U); }

// To the nearest bfloat16, of two to the even one; what is not finite becomes a NaN.
uint16_t ToBf16(float x) {
  if (!std::isfinite(x)) return 0x7fc0;
  const uint32_t bits = std::bit_cast<uint32_t>(WithoutSubnormals(x));
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16U) % 2U) >> 16U);
}

float FromBf16(const int8_t* from) {
  uint16_t upper = 0;
  std::memcpy(&upper, from, sizeof(upper));
  return std::bit_cast<float>(uint32_t{upper} << 16U);
}

// `value(i)` is activation i of the row.
template <typename Value>
void Round(const Value& value, int32_t inputs, float factor, const QuantisedRows& row) {
  for (int32_t i = 0; i < row.blocks * kBlockInputs; ++i) {
    const uint16_t rounded = i < inputs ? ToBf16(value(i) * factor) : uint16_t{0};
    const ptrdiff_t entry = ptrdiff_t{i / kBlockInputs} * row.panel_rows;
    std::memcpy(row.codes + (entry * kBlockInputs + i % kBlockInputs) * kBf16Bytes, &rounded, sizeof(rounded));
  }
}

void RoundRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  Round([=](int32_t i) { return from[i]; }, inputs, factor, row);
}

void RoundGatedRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  Round([=](int32_t i) { return Silu(from[i]) * from[inputs + i]; }, inputs, factor, row);
}

void RoundNormalisedRow(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                        const QuantisedRows& row) {
  const float inverse = InverseRootMeanSquare(from, inputs, norm.epsilon);
  Round([&](int32_t i) { return from[i] * inverse * norm.weight[i]; }, inputs, factor, row);
}

float WeightAt(const uint8_t* block, int32_t column, int32_t input) {
  const uint8_t* const scales = block + kInt4CodeBytes;
  const float scale = HalfToFloat(scales + 2 * column) * kBf16CutFactor;
  const float minimum = HalfToFloat(scales + kTileHalfBytes + 2 * column) * kBf16CutFactor;
  const float base = input < kBlockInputs / 2 ? kBf16LowBase : kBf16HighBase;
  const float code = static_cast<float>(Int4Code(block, column, input));
  return std::fma(base + code, scale, std::fma(-base, scale, minimum));
}

float Output(const uint8_t* packed, const QuantisedRows& row, int32_t column) {
  float output = 0.0F;
  for (int32_t b = 0; b < row.blocks; ++b) {
    const uint8_t* const block = packed + ptrdiff_t{b} * BlockBytes(LinearFormat::kInt4);
    const int8_t* const codes = row.codes + ptrdiff_t{b} * row.panel_rows * kBlockInputs * kBf16Bytes;
    float sums[2] = {};  // Of even and of odd inputs.
    for (int32_t i = 0; i < kBlockInputs; ++i) {
      const float weight = WithoutSubnormals(Cut(WeightAt(block, column, i)));
      sums[i % 2] = WithoutSubnormals(std::fma(FromBf16(codes + i * kBf16Bytes), weight, sums[i % 2]));
    }
    output = WithoutSubnormals(output + WithoutSubnormals(sums[0] + sums[1]));
  }
  return output;
}

void Multiply(const LinearTiles& tiles) {
  for (int32_t r = 0; r < tiles.row_count; ++r) {
    for (int32_t c = 0; c < tiles.columns; ++c) {
      const uint8_t* const packed = tiles.packed + c / kTileOutputs * tiles.tile_bytes;
      StoreOutput(tiles, r, c, Output(packed, RowsFrom(tiles.rows, r), c % kTileOutputs));
    }
  }
}

}  // namespace

const LinearMath& ScalarBf16LinearMath() {
  static const LinearMath kMath = [] {
    LinearMath math = ScalarLinearMath();
    math.bf16_tiles = {4, RoundRow, RoundGatedRow, RoundNormalisedRow, Multiply};
    return math;
  }();
  return kMath;
}

}  // namespace naiad
