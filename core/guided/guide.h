// What a request wants its text to look like. Plain data: whoever reads requests fills it, core/guided compiles it.
#pragma once

#include <cstddef>
#include <string>

namespace naiad {

inline constexpr size_t kMaxGuideBytes = 65'536;

struct GuideSpec {
  enum class Kind {
    kJsonSchema,  // `text` is a JSON schema.
    kRegex,       // `text` is a regular expression for the whole text.
    kJson,        // Any JSON object; `text` is empty.
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
};

}  // namespace naiad
