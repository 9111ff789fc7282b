// Greedy choice.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace naiad {

// Index of the largest value, the lowest one on ties. NaN counts as smaller than everything. Nothing if no value is
// larger than minus infinity. One pass over `values`.
[[nodiscard]] std::optional<int32_t> ArgMax(std::span<const float> values);

// The largest value, minus infinity if there is none; NaN counts as smaller than everything.
[[nodiscard]] float MaxValue(std::span<const float> values);

}  // namespace naiad
