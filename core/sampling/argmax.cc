#include "sampling/argmax.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

namespace naiad {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kLanes = 32;

}  // namespace

// Independent lanes, because a compiler may not reorder one running maximum of floats but does vectorise these.
float MaxValue(std::span<const float> values) {
  std::array<float, kLanes> lanes;
  lanes.fill(kMinusInfinity);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  float max = kMinusInfinity;
  for (const float lane : lanes) max = lane > max ? lane : max;
  for (; i < values.size(); ++i) max = values[i] > max ? values[i] : max;
  return max;
}

std::optional<int32_t> ArgMax(std::span<const float> values) {
  // Only the block that holds the maximum is looked at twice, while it is still in the first-level cache.
  constexpr size_t kBlock = 2048;
  float best = kMinusInfinity;
  size_t best_block = 0;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const float max = MaxValue(values.subspan(begin, std::min(kBlock, values.size() - begin)));
    if (max > best) {
      best = max;
      best_block = begin;
    }
  }
  if (best == kMinusInfinity) return std::nullopt;
  size_t index = best_block;
  while (values[index] != best) ++index;
  return static_cast<int32_t>(index);
}

}  // namespace naiad
