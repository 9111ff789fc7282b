// From the hidden vectors of one text's tokens to one vector.
#pragma once

#include <cstddef>
#include <span>

namespace naiad {

enum class Pooling {
  kMean,
  kCls,  // The first token's.
  kMax,  // Of each element.
};

// hidden: [tokens, width] with at least one token; pooled: [width].
void PoolHiddenStates(Pooling pooling, std::span<const float> hidden, std::span<float> pooled);

}  // namespace naiad
