// Who gets how many tokens of the next step, and who may start. Pure functions over counters: no requests, no cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace naiad {

// What one running sequence wants of the next step.
struct SequenceDemand {
  int32_t pending_tokens = 0;  // Tokens that are not in the cache yet.
  int32_t context_rows = 0;    // Of the pending tokens, the first ones whose rows of context log-probs are wanted.
  bool is_decoding = false;    // Its prompt is done: it waits for one token only.
  int64_t last_step = -1;      // Number of the last step that worked on it.
};

struct StepLimits {
  int32_t max_tokens = 0;        // At least 2.
  int32_t max_context_rows = 0;  // At least 1.
};

// Result of ShareStep, kept between calls so that its memory is used again.
struct StepShares {
  std::vector<int32_t> tokens;       // Tokens of each sequence in the step; 0 = not in it.
  std::vector<size_t> decode_order;  // Working memory.
};

// Shares out a step. `demands` are in order of admission. Decoding sequences come first, those that waited longest
// before the others; what is left goes to prefill in order of admission, cut to size. While somebody prefills, a
// quarter of the step (at least one token) is kept from decoding, so that neither kind can starve the other. The first
// sequence in line always gets something. Never more than the limits in sum.
void ShareStep(std::span<const SequenceDemand> demands, const StepLimits& limits, StepShares* shares);

struct AdmissionLimits {
  int32_t free_slots = 0;         // Requests that may still start.
  int32_t unpromised_blocks = 0;  // Blocks that no running request may ever need.
};

// How many of the waiting requests may start now, given in order of arrival the blocks that each can ever need.
// Strictly in order: a small request never overtakes a large one, which would let the large one starve.
[[nodiscard]] int32_t CountAdmissible(std::span<const int32_t> blocks_needed, AdmissionLimits limits);

}  // namespace naiad
