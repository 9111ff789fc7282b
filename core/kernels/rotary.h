// Rotary position embedding of one head, in halves: element i forms a pair with element i + pairs.
#pragma once

#include <cstdint>

namespace naiad {

// to = the head at `from` ([head_size]) with its first `pairs` pairs turned by the angles whose `cos` and `sin` are
// given
// ([pairs] each); the elements from 2 * pairs on are copied. `to` overlaps nothing. 2 * pairs <= head_size.
void RotateHead(const float* from, const float* cos, const float* sin, int32_t pairs, int32_t head_size, float* to);

}  // namespace naiad
