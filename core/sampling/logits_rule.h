// A rule that changes the logits of the next token before one is chosen.
#pragma once

#include <cstdint>
#include <span>

#include "engine/status.h"

namespace naiad {

enum class TokenOrigin { kPrompt, kGenerated };

// One object a rule and request. Engine thread only.
class LogitsRule {
 public:
  virtual ~LogitsRule() = default;
  // Changes the row of the next token in place; one value a token id, minus infinity = never. `generated_tokens` counts
  // the new tokens that the request has so far.
  virtual void Apply(int32_t generated_tokens, std::span<float> logits) const = 0;
  // Told of every token of the request in order: first of the prompt, then of each new one.
  virtual void OnToken(TokenOrigin /*origin*/, int32_t /*token_id*/) {}
  // Why the rule forbids every token from now on, if it had to give up; ok for all that never do.
  [[nodiscard]] virtual Status status() const { return Status::Ok(); }
};

}  // namespace naiad
