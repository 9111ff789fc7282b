// How long a step takes, learned from the steps that ran.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace naiad {

// What a step worked on, as far as its cost goes.
struct StepWork {
  int32_t decoding = 0;      // Sequences that get their next token.
  int32_t extra_tokens = 0;  // All other packed tokens: of prompts, and drafts.
};

// A step costs what decoding alone would cost, plus so much for each extra token. Both change with the machine's other
// work and with the length of the histories, so old steps are forgotten. The first is seen only in steps that decode
// alone: without one now and then, any rise of it would be blamed on the extra tokens, until none seemed affordable.
// Such steps are few while prompts are computed, so it is the median of the last ones: one slow moment of the machine
// must not set the length of all steps until the next.
class StepCostModel {
 public:
  void Observe(const StepWork& work, std::chrono::microseconds duration);

  // Steps since one decoded alone, of those that decoded at all.
  [[nodiscard]] int32_t steps_since_decoding_alone() const { return steps_since_alone_; }

  // Extra tokens that keep a step within `stretch` (over 1) times what its `decoding` (at least 1) sequences take
  // alone. At least a few, so that a prompt always gets on; a cautious guess until both costs are known.
  [[nodiscard]] int32_t ExtraTokensWithin(float stretch, int32_t decoding) const;

  // Cost of an extra token as a share of what a step of `decoding` (at least 1) sequences costs for each of them: the
  // part of drafts that must be accepted to pay for themselves. A cautious guess until both are known.
  [[nodiscard]] double RelativeTokenCost(int32_t decoding) const;

 private:
  struct DecodeStep {
    int32_t decoding = 0;
    double duration_us = 0.0;
  };
  static constexpr size_t kRememberedSteps = 5;

  [[nodiscard]] bool KnowsBothCosts() const { return alone_count_ > 0 && token_us_.has_value(); }
  [[nodiscard]] double DecodeCost(int32_t decoding) const;
  void RememberAlone(const DecodeStep& step);

  std::array<DecodeStep, kRememberedSteps> alone_;  // The last steps that decoded alone, in a ring.
  size_t alone_count_ = 0;                          // All so far.
  bool is_guess_ = false;                           // alone_ holds one step that was worked out, not seen.
  int32_t steps_since_alone_ = 0;
  std::optional<double> token_us_;
};

}  // namespace naiad
