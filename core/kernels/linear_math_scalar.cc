// The portable reference. Written to be read, not to be fast.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/gelu_constants.h"
#include "kernels/linear_math.h"
#include "kernels/quantised_row.h"
#include "kernels/silu_constants.h"

namespace naiad {
namespace {

float HalfToFloat(const uint8_t* from) {
  uint16_t half = 0;
  std::memcpy(&half, from, sizeof(half));
  const uint32_t sign = uint32_t{half & 0x8000U} << 16U;
  const uint32_t magnitude = half & 0x7fffU;
  // Half's exponent becomes float's by a multiplication, which also normalises what was subnormal.
  float value = std::bit_cast<float>(magnitude << 13U) * 0x1p112F;
  if (magnitude >= 0x7c00U) value = std::bit_cast<float>(0x7f800000U | magnitude << 13U);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

float ExpNonPositive(float y) {
  if (std::isnan(y)) return y;
  if (y < kLowestExponent) return 0.0F;
  const float n = std::nearbyint(y * kLog2OfE);
  const float r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, y));
  float p = 0.0F;
  for (const float coefficient : kExpPolynomial) p = std::fma(p, r, coefficient);
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

float Silu(float x) {
  const float e = ExpNonPositive(-std::abs(x));
  return x * ((x < 0.0F ? e : 1.0F) / (1.0F + e));
}

void QuantiseBlock(const float* from, int32_t count, float factor, int32_t block, const QuantisedRows& row) {
  const ptrdiff_t entry = ptrdiff_t{block} * row.panel_rows;
  int8_t* const codes = row.codes + entry * row.block_inputs;
  std::memset(codes, 0, static_cast<size_t>(row.block_inputs));
  float magnitude = 0.0F;
  bool finite = true;
  for (int32_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(from[i]);
    magnitude = std::max(magnitude, std::abs(from[i]));
  }
  int32_t sum = 0;
  float scale = finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
  if (finite && magnitude >= kSmallestMagnitude) {
    const float inverse = kMaxQuantised / magnitude;
    for (int32_t i = 0; i < count; ++i) {
      codes[i] = static_cast<int8_t>(std::nearbyint(from[i] * inverse));
      sum += codes[i];
    }
    scale = magnitude / kMaxQuantised * factor;
  }
  row.scales[entry] = scale;
  row.sums[entry] = scale * static_cast<float>(sum);
  row.offsets[entry] = -128 * sum;
}

void QuantiseRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * row.block_inputs;
    QuantiseBlock(from + first, std::min(row.block_inputs, inputs - first), factor, block, row);
  }
}

void QuantiseGatedRow(const float* from, int32_t inputs, float factor, const QuantisedRows& row) {
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * row.block_inputs;
    const int32_t count = std::min(row.block_inputs, inputs - first);
    float values[kWideBlockInputs];
    for (int32_t i = 0; i < count; ++i) values[i] = Silu(from[first + i]) * from[inputs + first + i];
    QuantiseBlock(values, count, factor, block, row);
  }
}

float InverseRootMeanSquare(const float* from, int32_t inputs, float epsilon) {
  float lanes[kBlockInputs] = {};
  for (int32_t i = 0; i < inputs; ++i) lanes[i % kBlockInputs] = std::fma(from[i], from[i], lanes[i % kBlockInputs]);
  for (int32_t half = kBlockInputs / 2; half > 0; half /= 2) {
    for (int32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return 1.0F / std::sqrt(lanes[0] / static_cast<float>(inputs) + epsilon);
}

void QuantiseNormalisedRow(const float* from, const RmsNorm& norm, int32_t inputs, float factor,
                           const QuantisedRows& row) {
  const float inverse = InverseRootMeanSquare(from, inputs, norm.epsilon);
  for (int32_t block = 0; block < row.blocks; ++block) {
    const int32_t first = block * row.block_inputs;
    const int32_t count = std::min(row.block_inputs, inputs - first);
    float values[kWideBlockInputs];
    for (int32_t i = 0; i < count; ++i) values[i] = from[first + i] * inverse * norm.weight[first + i];
    QuantiseBlock(values, count, factor, block, row);
  }
}

// The code of one weight of a block.
int32_t Int4Code(const uint8_t* block, int32_t column, int32_t input) {
  const uint8_t byte = block[(input % 16) / 4 * kVectorBytes + 4 * column + input % 4];
  return input < 16 ? byte & 15 : byte >> 4;
}
int32_t Int8Code(const uint8_t* block, int32_t column, int32_t input) {
  return block[input / 4 * kVectorBytes + 4 * column + input % 4];
}

template <LinearFormat kFormat>
float ScaleAt(const uint8_t* scales, int32_t column) {
  if constexpr (kFormat != LinearFormat::kInt8Wide) return HalfToFloat(scales + 2 * column);
  float scale = 0.0F;
  std::memcpy(&scale, scales + 4 * column, sizeof(scale));
  return scale;
}

float Gelu(float x) {
  if (x >= kGeluLimit) return x;
  if (x <= -kGeluLimit) return x * 0.0F;
  const float t = std::fma(x * x, kGeluScale, -1.0F);
  float p = 0.0F;
  for (const float coefficient : kGeluPolynomial) p = std::fma(p, t, coefficient);
  return x * std::fma(x, p, 0.5F);
}

template <LinearFormat kFormat>
float Output(const uint8_t* packed, const QuantisedRows& row, int32_t column) {
  float output = 0.0F;
  for (int32_t b = 0; b < row.blocks; ++b) {
    const uint8_t* const block = packed + ptrdiff_t{b} * BlockBytes(kFormat);
    const ptrdiff_t entry = ptrdiff_t{b} * row.panel_rows;
    const int8_t* const codes = row.codes + entry * row.block_inputs;
    int32_t sum = kFormat == LinearFormat::kInt4 ? 0 : row.offsets[entry];
    for (int32_t i = 0; i < BlockInputs(kFormat); ++i) {
      sum += codes[i] * (kFormat == LinearFormat::kInt4 ? Int4Code(block, column, i) : Int8Code(block, column, i));
    }
    const uint8_t* const scales = block + CodeBytes(kFormat);
    output = std::fma(static_cast<float>(sum) * row.scales[entry], ScaleAt<kFormat>(scales, column), output);
    if (kFormat == LinearFormat::kInt4) {
      output = std::fma(row.sums[entry], HalfToFloat(scales + kTileHalfBytes + 2 * column), output);
    }
  }
  return output;
}

template <LinearFormat kFormat>
void Multiply(const LinearTiles& tiles) {
  for (int32_t r = 0; r < tiles.row_count; ++r) {
    for (int32_t c = 0; c < tiles.columns; ++c) {
      const uint8_t* const packed = tiles.packed + c / kTileOutputs * tiles.tile_bytes;
      float output = Output<kFormat>(packed, RowsFrom(tiles.rows, r), c % kTileOutputs);
      if (tiles.bias != nullptr) output += tiles.bias[c];
      if (tiles.has_gelu) output = Gelu(output);
      if (tiles.residual != nullptr) output += tiles.residual[r * tiles.output_stride + c];
      tiles.output[r * tiles.output_stride + c] = output;
    }
  }
}

}  // namespace

const LinearMath& ScalarLinearMath() {
  static constexpr LinearMath kMath{4,
                                    4,
                                    QuantiseRow,
                                    QuantiseGatedRow,
                                    QuantiseNormalisedRow,
                                    Multiply<LinearFormat::kInt4>,
                                    Multiply<LinearFormat::kInt8>,
                                    Multiply<LinearFormat::kInt8Wide>};
  return kMath;
}

}  // namespace naiad
