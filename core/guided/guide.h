// What a request wants its text to look like. Plain data: whoever reads requests fills it, core/guided compiles it.
#pragma once

#include <string>

namespace naiad {

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
