// Guesses the next tokens of a sequence from its own history: "prompt lookup decoding" (Saxena, 2023,
// https://github.com/apoorvumang/prompt-lookup-decoding).
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace naiad {

// What came last time after the newest tokens is a guess of what comes now. Good for text that repeats itself or its
// prompt, worthless for other text; so it also learns how often its guesses hold, and rests when they do not.
// One object a sequence; engine thread only.
class PromptLookup {
 public:
  // Guesses at most `max_draft_tokens`, at least 1.
  explicit PromptLookup(int32_t max_draft_tokens) : max_draft_tokens_(max_draft_tokens) {}

  // Sets `draft` to the guess of what follows `history`, at most `limit` tokens; empty if there is none, or if it is
  // not worth trying. `history` must be that of the last call with more tokens behind it. `token_cost` is the share of
  // guesses that must hold to pay for the work on all of them (StepCostModel).
  void Propose(std::span<const int32_t> history, int32_t limit, double token_cost, std::vector<int32_t>* draft);

  // Of the `drafted` tokens, at least 1, of the last proposal that ran, the first `accepted` were right.
  void OnResult(int32_t drafted, int32_t accepted);

 private:
  void Learn(std::span<const int32_t> history);
  [[nodiscard]] bool IsWorthTrying(double token_cost);

  const int32_t max_draft_tokens_;
  std::unordered_map<uint64_t, int32_t>
      next_positions_;       // n-gram -> position after its latest occurrence but the last.
  int32_t learned_ = 0;      // n-grams that end before this position are known.
  double acceptance_ = 0.5;  // Running average over drafted tokens.
  int32_t length_ = 1;       // Guessed at once; grows while guesses hold.
  int32_t rest_ = 0;         // Proposals left out before the next try.
  int32_t failures_ = 0;     // In a row.
};

}  // namespace naiad
