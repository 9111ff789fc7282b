// How long a step takes, learned from the steps that ran.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace naiad {

// What a step worked on, as far as its cost goes.
struct StepWork {
  int32_t decoding = 0;      // Sequences that get their next token.
  int32_t extra_tokens = 0;  // All other packed tokens: of prompts, and drafts.
};

// A step costs what decoding alone would cost, plus so much for each extra token. Both change with the machine's other
// work and with the length of the histories, so both are running averages that forget within some tens of steps. The
// first is seen only in steps that decode alone: without one now and then, any rise of it would be blamed on the extra
// tokens, until none seemed affordable.
class StepCostModel {
 public:
  void Observe(const StepWork& work, std::chrono::microseconds duration);

  // Whether the next step should decode alone, because none has for a while.
  [[nodiscard]] bool NeedsDecodingAlone() const;

  // Extra tokens that keep a step within `stretch` (over 1) times what its `decoding` (at least 1) sequences take
  // alone. At least a few, so that a prompt always gets on; a cautious guess until both costs are known.
  [[nodiscard]] int32_t ExtraTokensWithin(float stretch, int32_t decoding) const;

  // Cost of an extra token as a share of what a step of `decoding` (at least 1) sequences costs for each of them: the
  // part of drafts that must be accepted to pay for themselves. A cautious guess until both are known.
  [[nodiscard]] double RelativeTokenCost(int32_t decoding) const;

 private:
  [[nodiscard]] double DecodeCost(int32_t decoding) const;

  std::optional<double> decode_us_;  // Of a step of `decode_sequences_`.
  int32_t decode_sequences_ = 0;
  int32_t steps_since_decode_ = 0;
  std::optional<double> token_us_;
};

}  // namespace naiad
