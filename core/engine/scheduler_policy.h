// Who gets how many tokens of the next step. A pure function over counters: no requests, no cache.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace naiad {

// What one running sequence wants of the next step.
struct SequenceDemand {
  int32_t pending_tokens = 0;  // Tokens that are not in the cache yet.
  int32_t context_rows = 0;    // Of the pending tokens, the first ones whose rows of context log-probs are wanted.
  bool is_decoding = false;    // Its prompt is done: it waits for one token only.
  int32_t priority = 0;
  int64_t last_step = -1;  // Number of the last step that worked on it.
};

struct StepLimits {
  int32_t max_tokens = 0;                                            // At least 2.
  int32_t max_context_rows = 0;                                      // At least 1.
  int32_t max_prefill_tokens = std::numeric_limits<int32_t>::max();  // 0: decoding only.
};

// Result of ShareStep, kept between calls so that its memory is used again.
struct StepShares {
  std::vector<int32_t> tokens;        // Tokens of each sequence in the step; 0 = not in it.
  std::vector<size_t> decode_order;   // Working memory.
  std::vector<size_t> prefill_order;  // Working memory.
};

// Shares out a step. `demands` are in order of rank. Decoding sequences come first, those that waited longest before
// the others; while somebody prefills, a quarter of the step (at least one token) is kept from decoding, so that
// neither kind can starve the other. What is left goes to prefill: half of it to the first in line, so that it always
// gets on, then to the others of the highest priority first and among those to the shortest first, so that a short
// prompt does not wait for the whole of a long one; what nobody else wants goes to the first again. Never more than the
// limits in sum.
void ShareStep(std::span<const SequenceDemand> demands, const StepLimits& limits, StepShares* shares);

}  // namespace naiad
