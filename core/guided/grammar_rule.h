// Keeps the tokens of one sequence inside a compiled grammar.
#pragma once

#include <xgrammar/xgrammar.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sampling/logits_rule.h"

namespace naiad {

// Sets the logits of all tokens to minus infinity whose bit in `mask` (32 to a word, the lowest first) is not set.
// `mask` has a bit for each logit.
void MaskLogits(std::span<const int32_t> mask, std::span<float> logits);

// Processor time that a sequence may use to follow its grammar.
struct GuideTimeBudget {
  std::chrono::microseconds per_token{20'000};
  std::chrono::microseconds most_saved{200'000};  // Of what it did not use.
};

// Engine thread only. A sequence gets processor time for its grammar by the token, and saves up some of what it does
// not use; one whose grammar takes more (some regular expressions can be made to) loses all its logits, and so fails
// alone, with kInvalidArgument, instead of slowing all others down.
class GrammarRule final : public LogitsRule {
 public:
  // `vocabulary_size` is that of the grammar's tokenizer.
  GrammarRule(const xgrammar::CompiledGrammar& grammar, int32_t vocabulary_size, const GuideTimeBudget& budget = {});

  void Apply(int32_t generated_tokens, std::span<float> logits) const override;
  void OnToken(TokenOrigin origin, int32_t token_id) override;
  [[nodiscard]] Status status() const override { return status_; }

 private:
  [[nodiscard]] bool FillMask() const;
  // In a handler of an exception: ends the matcher and notes why.
  void GiveUp() const;

  // Asking for the tokens that may follow goes forth and back in the matcher's state; seen from outside, nothing
  // changes. Empty once the sequence has left the grammar or used up its time.
  mutable std::optional<xgrammar::GrammarMatcher> matcher_;
  mutable std::vector<int32_t> mask_;
  const GuideTimeBudget budget_;
  mutable std::chrono::microseconds saved_time_;
  mutable Status status_;
};

}  // namespace naiad
