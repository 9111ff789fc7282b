#include "kernels/rotary.h"

#include <algorithm>

namespace naiad {

void RotateHead(const float* __restrict from, const float* __restrict cos, const float* __restrict sin, int32_t pairs,
                int32_t head_size, float* __restrict to) {
  for (int32_t i = 0; i < pairs; ++i) {
    const float first = from[i];
    const float second = from[i + pairs];
    to[i] = first * cos[i] - second * sin[i];
    to[i + pairs] = second * cos[i] + first * sin[i];
  }
  std::copy(from + 2 * pairs, from + head_size, to + 2 * pairs);
}

}  // namespace naiad
