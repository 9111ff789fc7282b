#include "engine/step_sampling.h"

#include <cstddef>

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

void SampleNext(const Sequence& sequence, std::span<float> row, SamplerScratch* scratch, SequenceOutcome* outcome) {
  const OutputOptions& output = sequence.request().output;
  // Sampling changes the row, and log-probabilities are those under the model itself. A row without finite maximum has
  // none; then sampling reports it.
  if (output.log_probs) scratch->model_logits.assign(row.begin(), row.end());
  outcome->token_id = sequence.sampler().Sample(row, scratch);
  if (!outcome->token_id) {
    outcome->status =
        Status::Internal("no token has a finite logit after " + std::to_string(sequence.total_tokens()) + " tokens");
    return;
  }
  outcome->delta.token_ids.push_back(*outcome->token_id);
  if (output.log_probs) {
    AppendLogProbs(scratch->model_logits, *outcome->token_id, output.top_log_probs, &scratch->candidates,
                   &outcome->delta.log_probs);
  }
}

}  // namespace

void SampleStep(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running, std::span<float> logits,
                int32_t vocabulary_size, SamplerScratch* scratch, std::vector<SequenceOutcome>* outcomes) {
  const LogitRows rows{logits, static_cast<size_t>(vocabulary_size)};
  outcomes->clear();
  for (const PlannedSequence& planned : plan.sequences) {
    const Sequence& sequence = *running[planned.slot];
    SequenceOutcome& outcome = outcomes->emplace_back();
    ScoreContext(planned, sequence, rows, scratch, &outcome.delta.context_log_probs);
    if (!planned.samples) continue;
    SampleNext(sequence, rows.Row(planned.first_logit_row + planned.context_row_count), scratch, &outcome);
  }
}

}  // namespace naiad
