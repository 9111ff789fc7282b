// A key or value in 8 bits: head_size signed values, then one float, the row's scale. What it stands for is scale times
// value, within half a scale of the float row that it was made from; the scale is that row's largest magnitude / 127.
#pragma once

#include <cstdint>
#include <cstring>

namespace naiad {

inline constexpr int32_t kRowScaleBytes = 4;
inline constexpr float kMaxQuantised = 127.0F;
// A row whose largest magnitude is below this becomes zeros: 127 divided by it is still finite.
inline constexpr float kSmallestMagnitude = 1e-36F;

// Static, as they are compiled for several instruction sets: the linker must not merge them. Rows follow each other
// without padding, so that a scale may lie anywhere.
static inline float RowScale(const uint8_t* row, int32_t head_size) {
  float scale = 0.0F;
  std::memcpy(&scale, row + head_size, sizeof(scale));
  return scale;
}

static inline void SetRowScale(uint8_t* row, int32_t head_size, float scale) {
  std::memcpy(row + head_size, &scale, sizeof(scale));
}

}  // namespace naiad
