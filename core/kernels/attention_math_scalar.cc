// The portable reference. Written to be read, not to be fast.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention_math.h"
#include "kernels/quantised_row.h"

namespace naiad {
namespace {

void Scores(const float* const* queries, int32_t rows, const float* keys, ptrdiff_t stride, int32_t count,
            int32_t head_size, float* scores) {
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t j = 0; j < count; ++j) {
      const float* key = keys + j * stride;
      float sum = 0.0F;
      for (int32_t d = 0; d < head_size; ++d) sum += queries[r][d] * key[d];
      scores[r * kMaxTileTokens + j] = sum;
    }
  }
}

float Weights(float* scores, int32_t count, float scale, float softcap, SoftmaxState* state) {
  for (int32_t j = 0; j < count; ++j) {
    scores[j] *= scale;
    if (softcap > 0.0F) scores[j] = softcap * std::tanh(scores[j] / softcap);
  }
  const bool first = state->sum == 0.0F;
  const float tile_max = *std::max_element(scores, scores + count);
  const float new_max = first ? tile_max : std::max(state->max, tile_max);
  const float correction = first ? 0.0F : std::exp(state->max - new_max);
  float sum = 0.0F;
  for (int32_t j = 0; j < count; ++j) {
    scores[j] = std::exp(scores[j] - new_max);
    sum += scores[j];
  }
  *state = {new_max, state->sum * correction + sum};
  return correction;
}

void Accumulate(const float* weights, const float* corrections, int32_t rows, const float* values, ptrdiff_t stride,
                int32_t count, int32_t head_size, float* const* outputs) {
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t d = 0; d < head_size; ++d) {
      float sum = outputs[r][d] * corrections[r];
      for (int32_t j = 0; j < count; ++j) sum += weights[r * kMaxTileTokens + j] * values[j * stride + d];
      outputs[r][d] = sum;
    }
  }
}

float Dequantised(uint8_t value) { return static_cast<float>(static_cast<int8_t>(value)); }

void ScoresInt8(const float* const* queries, int32_t rows, const uint8_t* keys, ptrdiff_t stride, int32_t count,
                int32_t head_size, float* scores) {
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t j = 0; j < count; ++j) {
      const uint8_t* key = keys + j * stride;
      float sum = 0.0F;
      for (int32_t d = 0; d < head_size; ++d) sum += queries[r][d] * Dequantised(key[d]);
      scores[r * kMaxTileTokens + j] = sum * RowScale(key, head_size);
    }
  }
}

void AccumulateInt8(const float* weights, const float* corrections, int32_t rows, const uint8_t* values,
                    ptrdiff_t stride, int32_t count, int32_t head_size, float* const* outputs) {
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t d = 0; d < head_size; ++d) outputs[r][d] *= corrections[r];
    for (int32_t j = 0; j < count; ++j) {
      const uint8_t* value = values + j * stride;
      const float weight = weights[r * kMaxTileTokens + j] * RowScale(value, head_size);
      for (int32_t d = 0; d < head_size; ++d) outputs[r][d] += weight * Dequantised(value[d]);
    }
  }
}

void QuantiseRow(const float* from, int32_t head_size, uint8_t* row) {
  float magnitude = 0.0F;
  bool finite = true;
  for (int32_t d = 0; d < head_size; ++d) {
    finite = finite && std::isfinite(from[d]);
    magnitude = std::max(magnitude, std::abs(from[d]));
  }
  const bool zeros = !finite || magnitude < kSmallestMagnitude;
  const float inverse = zeros ? 0.0F : kMaxQuantised / magnitude;
  for (int32_t d = 0; d < head_size; ++d) {
    row[d] = zeros ? uint8_t{0} : static_cast<uint8_t>(static_cast<int8_t>(std::nearbyint(from[d] * inverse)));
  }
  const float scale = zeros ? 0.0F : magnitude / kMaxQuantised;
  SetRowScale(row, head_size, finite ? scale : std::numeric_limits<float>::quiet_NaN());
}

}  // namespace

const AttentionMath& ScalarAttentionMath() {
  static constexpr AttentionMath kMath{Scores, Weights, Accumulate, ScoresInt8, AccumulateInt8, QuantiseRow};
  return kMath;
}

}  // namespace naiad
