// The portable reference. Written to be read, not to be fast.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/attention_math.h"
#include "kernels/exp_constants.h"
#include "kernels/quantised_row.h"

namespace naiad {
namespace {

// Vectors of 16 lanes, whose sums are added in halves: what the order of a sum is at every level.
constexpr int32_t kLanes = 16;

int32_t Signed(uint8_t byte) { return static_cast<int8_t>(byte); }

// Values stay as they are; a row begins where its packed head would.
void PackRows(const uint8_t* const* rows, ChunkRange at, int32_t head_size, const PackedRows& to,
              RowStream* /*upcoming*/) {
  for (int32_t j = at.begin; j < at.end; ++j) {
    const uint8_t* const row = rows[j - at.begin];
    std::copy_n(row, head_size, to.bytes + ptrdiff_t{j} * PackedHeadSize(head_size));
    to.scales[j] = RowScale(row, head_size);
  }
}

float PackQuery(const float* query, int32_t head_size, uint8_t* packed) {
  ScalarAttentionMath().quantise_row(query, head_size, packed);
  return RowScale(packed, head_size);
}

void Scores(const PackedQueries& queries, const PackedRows& keys, ChunkRange range, int32_t head_size, float* scores,
            RowStream* /*upcoming*/) {
  for (int32_t r = 0; r < queries.rows; ++r) {
    const uint8_t* const query = queries.bytes + r * queries.stride;
    for (int32_t j = range.begin; j < range.end; ++j) {
      const uint8_t* const key = keys.bytes + ptrdiff_t{j} * PackedHeadSize(head_size);
      int32_t sum = 0;
      for (int32_t d = 0; d < head_size; ++d) sum += Signed(query[d]) * Signed(key[d]);
      scores[r * kScoreStride + j] = static_cast<float>(sum) * keys.scales[j] * queries.factors[r];
    }
  }
}

template <size_t kCount>
float Polynomial(const float (&coefficients)[kCount], float x) {
  float p = coefficients[0];
  for (size_t i = 1; i < kCount; ++i) p = std::fma(p, x, coefficients[i]);
  return p;
}

float ExpNonPositive(float x) {
  if (x < kLowestExponent) return 0.0F;
  const float n = std::nearbyint(x * kLog2OfE);
  const float r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, x));
  return std::ldexp(Polynomial(kExpPolynomial, r), static_cast<int>(n));
}

float Tanh(float x) {
  const float magnitude = std::abs(x);
  const float e = ExpNonPositive(magnitude * -2.0F);
  const float tanh =
      magnitude > kLargestSmallTanh ? (1.0F - e) / (1.0F + e) : Polynomial(kTanhPolynomial, x * x) * magnitude;
  return std::copysign(tanh, x);
}

float Exp2(float x) {
  if (std::isnan(x)) return x;
  x = std::max(x, kLowestExponentOfTwo);
  const float n = std::nearbyint(x);
  return std::ldexp(Polynomial(kExp2Polynomial, x - n), static_cast<int>(n));
}

float SumOfLanes(std::array<float, kLanes> lanes) {
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// `products` are those of a group: not negative, or no number, which is the largest of all.
void QuantiseGroup(const float* products, uint8_t* codes, float* scale) {
  uint32_t bits = 0;
  for (int32_t j = 0; j < kWeightGroupTokens; ++j) bits = std::max(bits, std::bit_cast<uint32_t>(products[j]));
  const auto largest = std::bit_cast<float>(bits);
  *scale = largest * (1.0F / kMaxWeightCode);
  const float inverse = largest < kSmallestMagnitude ? 0.0F : kMaxWeightCode / largest;
  for (int32_t j = 0; j < kWeightGroupTokens; ++j) {
    codes[j] = std::isfinite(largest) ? static_cast<uint8_t>(std::nearbyint(products[j] * inverse)) : uint8_t{0};
  }
}

SoftmaxState Weights(float* scores, ChunkRange range, const float* value_scales, float softcap, const WeightCodes& to) {
  for (int32_t j = range.begin; softcap > 0.0F && j < range.end; ++j) {
    scores[j] = softcap * Tanh(scores[j] / softcap) * kLog2OfE;
  }
  const float max = *std::max_element(scores + range.begin, scores + range.end);
  std::array<float, kLanes> sums{};
  std::array<float, kChunkTokens> products{};
  for (int32_t j = range.begin; j < range.end; ++j) {
    const float weight = Exp2(scores[j] - max);
    sums[static_cast<size_t>(j % kLanes)] += weight;
    products[static_cast<size_t>(j)] = weight * value_scales[j];
  }
  for (int32_t g = 0; g < kWeightGroups; ++g) {
    QuantiseGroup(products.data() + g * kWeightGroupTokens, to.codes + g * kWeightGroupTokens, to.scales + g);
  }
  return {max * kLn2, SumOfLanes(sums)};
}

void Accumulate(const WeightCodes& weights, int32_t rows, const PackedRows& values, ChunkRange groups,
                int32_t head_size, float* const* outputs, RowStream* /*upcoming*/) {
  for (int32_t r = 0; r < rows; ++r) {
    const uint8_t* const codes = weights.codes + r * kChunkTokens;
    for (int32_t d = 0; d < head_size; ++d) {
      float output = 0.0F;
      for (int32_t g = groups.begin; g < groups.end; ++g) {
        int32_t sum = 0;
        for (int32_t j = g * kWeightGroupTokens; j < (g + 1) * kWeightGroupTokens; ++j) {
          sum += int32_t{codes[j]} * Signed(values.bytes[ptrdiff_t{j} * PackedHeadSize(head_size) + d]);
        }
        output = std::fma(static_cast<float>(sum), weights.scales[r * kWeightGroups + g], output);
      }
      outputs[r][d] = output;
    }
  }
}

}  // namespace

const Int8AttentionMath& ScalarInt8AttentionMath() {
  static constexpr Int8AttentionMath kMath{PackQuery, PackRows, PackRows, Scores, Weights, Accumulate};
  return kMath;
}

}  // namespace naiad
