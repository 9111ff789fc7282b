// The portable reference. Written to be read, not to be fast.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention_math.h"
#include "kernels/quantised_row.h"

namespace naiad {
namespace {

void Scores(const float* const* queries, int32_t rows, const float* const* keys, const float* const* /*upcoming*/,
            int32_t count, int32_t head_size, float* scores) {
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t j = 0; j < count; ++j) {
      float sum = 0.0F;
      for (int32_t d = 0; d < head_size; ++d) sum += queries[r][d] * keys[j][d];
      scores[r * kScoreStride + j] = sum;
    }
  }
}

SoftmaxState Weights(float* scores, int32_t count, float scale, float softcap) {
  for (int32_t j = 0; j < count; ++j) {
    scores[j] *= scale;
    if (softcap > 0.0F) scores[j] = softcap * std::tanh(scores[j] / softcap);
  }
  const float max = *std::max_element(scores, scores + count);
  float sum = 0.0F;
  for (int32_t j = 0; j < count; ++j) {
    scores[j] = std::exp(scores[j] - max);
    sum += scores[j];
  }
  return {max, sum};
}

void Accumulate(const float* weights, int32_t rows, const float* const* values, const float* const* /*upcoming*/,
                int32_t count, int32_t head_size, float* const* outputs) {
  for (int32_t r = 0; r < rows; ++r) {
    for (int32_t j = 0; j < count; ++j) {
      const float weight = weights[r * kScoreStride + j];
      for (int32_t d = 0; d < head_size; ++d) outputs[r][d] += weight * values[j][d];
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
  static const AttentionMath kMath{Scores, Weights, Accumulate, QuantiseRow, ScalarInt8AttentionMath()};
  return kMath;
}

}  // namespace naiad
