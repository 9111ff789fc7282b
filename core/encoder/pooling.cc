#include "encoder/pooling.h"

#include <algorithm>

namespace naiad {

void PoolHiddenStates(Pooling pooling, std::span<const float> hidden, std::span<float> pooled) {
  const size_t width = pooled.size();
  std::copy_n(hidden.begin(), width, pooled.begin());
  if (pooling == Pooling::kCls) return;
  for (size_t row = width; row < hidden.size(); row += width) {
    for (size_t i = 0; i < width; ++i) {
      const float value = hidden[row + i];
      pooled[i] = pooling == Pooling::kMean ? pooled[i] + value : std::max(pooled[i], value);
    }
  }
  if (pooling == Pooling::kMean) {
    const float tokens = static_cast<float>(hidden.size() / width);
    for (float& value : pooled) value /= tokens;
  }
}

}  // namespace naiad
