// The portable reference. Written to be read, not to be fast.
#include <algorithm>
#include <cmath>

#include "kernels/attention_math.h"

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

}  // namespace

const AttentionMath& ScalarAttentionMath() {
  static constexpr AttentionMath kMath{Scores, Weights, Accumulate};
  return kMath;
}

}  // namespace naiad
