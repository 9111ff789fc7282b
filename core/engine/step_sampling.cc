#include "engine/step_sampling.h"

#include <cstddef>
#include <utility>

#include "sampling/log_probs.h"

namespace naiad {
namespace {

// The logits of a step as rows.
struct LogitRows {
  std::span<float> values;
  size_t vocabulary_size = 0;

  [[nodiscard]] std::span<float> Row(int32_t index) const {
    return values.subspan(static_cast<size_t>(index) * vocabulary_size, vocabulary_size);
  }
};

void ScoreContext(const PlannedSequence& planned, const Sequence& sequence, const LogitRows& rows,
                  SamplerScratch* scratch, LogProbs* log_probs) {
  for (int32_t i = 0; i < planned.context_row_count; ++i) {
    const auto next_position = static_cast<size_t>(planned.first_context_position + i + 1);
    AppendLogProbs(rows.Row(planned.first_logit_row + i), sequence.tokens()[next_position],
                   sequence.request().output.top_log_probs, &scratch->candidates, log_probs);
  }
}

// False if no token has a finite logit.
bool SampleNext(Sequence& sequence, std::span<float> row, SamplerScratch* scratch, TokenDelta* delta) {
  const OutputOptions& output = sequence.request().output;
  // Sampling changes the row, and log-probabilities are those under the model itself. A row without finite maximum has
  // none; then sampling reports it.
  if (output.log_probs) scratch->model_logits.assign(row.begin(), row.end());
  const std::optional<int32_t> token_id = sequence.sampler().Sample(row, scratch);
  if (!token_id) return false;
  delta->token_ids.push_back(*token_id);
  if (output.log_probs) {
    AppendLogProbs(scratch->model_logits, *token_id, output.top_log_probs, &scratch->candidates, &delta->log_probs);
  }
  sequence.AppendToken(*token_id);
  return true;
}

// Goes on from row to row for as long as the drafts hold.
void SampleSequence(std::span<const int32_t> drafts, const LogitRows& rows, int32_t first_row, Sequence& sequence,
                    SamplerScratch* scratch, SequenceOutcome* outcome) {
  for (int32_t i = 0; std::cmp_less_equal(i, drafts.size()); ++i) {
    if (!SampleNext(sequence, rows.Row(first_row + i), scratch, &outcome->delta)) {
      outcome->end = SequenceEnd::Error(sequence.sampler().WhyNoToken());
      return;
    }
    outcome->end = sequence.NaturalEnd();
    if (outcome->end || std::cmp_equal(i, drafts.size())) return;
    if (outcome->delta.token_ids.back() != drafts[static_cast<size_t>(i)]) return;
    ++outcome->accepted_drafts;
  }
}

}  // namespace

void SampleStep(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running, std::span<float> logits,
                int32_t vocabulary_size, SamplerScratch* scratch, std::vector<SequenceOutcome>* outcomes) {
  const LogitRows rows{logits, static_cast<size_t>(vocabulary_size)};
  outcomes->clear();
  for (const PlannedSequence& planned : plan.sequences) {
    Sequence& sequence = *running[planned.slot];
    SequenceOutcome& outcome = outcomes->emplace_back();
    outcome.delta.sequence_index = sequence.index();
    ScoreContext(planned, sequence, rows, scratch, &outcome.delta.context_log_probs);
    if (!planned.samples) continue;
    SampleSequence(plan.DraftsOf(planned), rows, planned.first_logit_row + planned.context_row_count, sequence, scratch,
                   &outcome);
  }
}

}  // namespace naiad
