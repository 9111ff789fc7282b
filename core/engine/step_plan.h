// What the next step will do, as plain values: the planner writes it, the later phases only read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace naiad {

// The part of one sequence. Its packed rows are first_row .. first_row+token_count-1; they hold the sequence's tokens
// from position first_position on, and behind them the drafts. Its logit rows are in order of position: first those for
// context log-probabilities, then, if it samples, that of its last token and those of the drafts.
struct PlannedSequence {
  size_t slot = 0;                     // Index among the running sequences.
  int32_t first_position = 0;          // Tokens of the sequence already in the cache.
  int32_t token_count = 0;             // At least 1; drafts included.
  int32_t draft_count = 0;             // Guesses of the tokens to come; 0 unless it samples.
  size_t first_draft = 0;              // In StepPlan::draft_tokens.
  int32_t first_row = 0;               // In the packed batch.
  int32_t first_logit_row = 0;         // In the logits.
  int32_t context_row_count = 0;       // Logit rows for context log-probabilities.
  int32_t first_context_position = 0;  // Position of the first of them: its row scores the token one further.
  bool samples = false;                // The last logit rows give the next token, or more if drafts hold.
  int32_t new_blocks = 0;              // Blocks to reserve before the run.
  bool copies_block = false;           // One block more, to take the place of one that it shares and has to write to.

  [[nodiscard]] int32_t sample_row_count() const { return samples ? 1 + draft_count : 0; }
  [[nodiscard]] int32_t logit_row_count() const { return context_row_count + sample_row_count(); }
};

struct StepPlan {
  std::vector<PlannedSequence> sequences;  // In order of rank.
  std::vector<int32_t> draft_tokens;       // Of all sequences, one after the other.
  int32_t tokens = 0;                      // Sum of token_count.
  int32_t logit_rows = 0;                  // Sum of logit_row_count().
  int32_t decoding = 0;                    // Sequences that were decoding already.

  [[nodiscard]] std::span<const int32_t> DraftsOf(const PlannedSequence& planned) const {
    return std::span(draft_tokens).subspan(planned.first_draft, static_cast<size_t>(planned.draft_count));
  }
  void Clear() {
    sequences.clear();
    draft_tokens.clear();
    tokens = 0;
    logit_rows = 0;
    decoding = 0;
  }
};

}  // namespace naiad
