// What the next step will do, as plain values: the planner writes it, the later phases only read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace naiad {

// The part of one sequence. Its packed rows are first_row .. first_row+token_count-1; they hold the sequence's tokens
// at positions first_position .. first_position+token_count-1. Its logit rows are in order of position: first those for
// context log-probabilities, then, if it samples, that of its last token.
struct PlannedSequence {
  size_t slot = 0;                     // Index among the running sequences.
  int32_t first_position = 0;          // Tokens of the sequence already in the cache.
  int32_t token_count = 0;             // At least 1.
  int32_t first_row = 0;               // In the packed batch.
  int32_t first_logit_row = 0;         // In the logits.
  int32_t context_row_count = 0;       // Logit rows for context log-probabilities.
  int32_t first_context_position = 0;  // Position of the first of them: its row scores the token one further.
  bool samples = false;                // The last logit row gives the next token.
  int32_t new_blocks = 0;              // Blocks to reserve before the run.

  [[nodiscard]] int32_t logit_row_count() const { return context_row_count + (samples ? 1 : 0); }
};

struct StepPlan {
  std::vector<PlannedSequence> sequences;  // In order of admission.
  int32_t tokens = 0;                      // Sum of token_count.
  int32_t logit_rows = 0;                  // Sum of logit_row_count().

  void Clear() {
    sequences.clear();
    tokens = 0;
    logit_rows = 0;
  }
};

}  // namespace naiad
