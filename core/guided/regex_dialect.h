// Regular expressions as the grammar library takes them.
#pragma once

#include <string>
#include <string_view>

#include "engine/status.h"

namespace naiad {

enum class RegexPlace {
  kText,        // The whole text matches it.
  kJsonString,  // The inside of a JSON string does: characters that would have to be escaped are never matched.
};

// Rewrites `regex` (UTF-8): `.` matches no line break, as it is usual, and character classes leave out what the place
// forbids. kInvalidArgument if it is no regular expression, goes beyond the bounds of guide_check.h, or uses what is
// not supported: look-around, back references, word boundaries, \p, flags, anchors inside, double quotes and
// backslashes in a JSON string.
Status TranslateRegex(std::string_view regex, RegexPlace place, std::string* translated);

}  // namespace naiad
