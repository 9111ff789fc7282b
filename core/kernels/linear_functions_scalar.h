// What the portable loops of linear layers share. Written to be read, not to be fast.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/gelu_constants.h"
#include "kernels/linear_math.h"
#include "kernels/silu_constants.h"

namespace naiad {

static inline float HalfToFloat(const uint8_t* from) {
  uint16_t half = 0;
  std::memcpy(&half, from, sizeof(half));
  const uint32_t sign = uint32_t{half & 0x8000U} << 16U;
  const uint32_t magnitude = half & 0x7fffU;
  // Half's exponent becomes float's by a multiplication, which also normalises what was subnormal.
  float value = std::bit_cast<float>(magnitude << 13U) * 0x1p112F;
  if (magnitude >= 0x7c00U) value = std::bit_cast<float>(0x7f800000U | magnitude << 13U);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
}

static inline float ExpNonPositive(float y) {
  if (std::isnan(y)) return y;
  if (y < kLowestExponent) return 0.0F;
  const float n = std::nearbyint(y * kLog2OfE);
  const float r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, y));
  float p = 0.0F;
  for (const float coefficient : kExpPolynomial) p = std::fma(p, r, coefficient);
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

static inline float Silu(float x) {
  const float e = ExpNonPositive(-std::abs(x));
  return x * ((x < 0.0F ? e : 1.0F) / (1.0F + e));
}

static inline float InverseRootMeanSquare(const float* from, int32_t inputs, float epsilon) {
  float lanes[kBlockInputs] = {};
  for (int32_t i = 0; i < inputs; ++i) lanes[i % kBlockInputs] = std::fma(from[i], from[i], lanes[i % kBlockInputs]);
  for (int32_t half = kBlockInputs / 2; half > 0; half /= 2) {
    for (int32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return 1.0F / std::sqrt(lanes[0] / static_cast<float>(inputs) + epsilon);
}

// The code of one weight of a block.
static inline int32_t Int4Code(const uint8_t* block, int32_t column, int32_t input) {
  const uint8_t byte = block[(input % 16) / 4 * kVectorBytes + 4 * column + input % 4];
  return input < 16 ? byte & 15 : byte >> 4;
}
static inline int32_t Int8Code(const uint8_t* block, int32_t column, int32_t input) {
  return block[input / 4 * kVectorBytes + 4 * column + input % 4];
}

static inline float Gelu(float x) {
  if (x >= kGeluLimit) return x;
  if (x <= -kGeluLimit) return x * 0.0F;
  const float t = std::fma(x * x, kGeluScale, -1.0F);
  float p = 0.0F;
  for (const float coefficient : kGeluPolynomial) p = std::fma(p, t, coefficient);
  return x * std::fma(x, p, 0.5F);
}

// Writes output `column` of row `row`, of which `sum` is the product, after bias, GELU and residual.
static inline void StoreOutput(const LinearTiles& tiles, int32_t row, int32_t column, float sum) {
  if (tiles.bias != nullptr) sum += tiles.bias[column];
  if (tiles.has_gelu) sum = Gelu(sum);
  const ptrdiff_t at = row * tiles.output_stride + column;
  if (tiles.residual != nullptr) sum += tiles.residual[at];
  tiles.output[at] = sum;
}

}  // namespace naiad
