// What a guide must be before it is compiled: within bounds, and free of what would silently not be enforced.
#pragma once

#include <cstdint>

#include "engine/status.h"
#include "guided/guide.h"

namespace naiad {

inline constexpr int kMaxGuideNesting = 64;  // Of brackets and braces in a schema, of groups in an expression.
// Of repetitions: {n,m}, minLength, maxLength, minItems, maxItems, minProperties, maxProperties.
inline constexpr int64_t kMaxGuideRepetition = 10'000;

// Sets `checked` to the guide as the compiler takes it. kInvalidArgument says what is wrong with it, without the name
// of the field.
Status CheckGuide(const GuideSpec& guide, GuideSpec* checked);

}  // namespace naiad
