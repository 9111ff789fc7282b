#include "engine/packed_step.h"

#include <algorithm>
#include <cstddef>

namespace naiad {

PackedBatch PackedStep::Build(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running,
                              std::span<const BlockReservation> reservations) {
  input_ids_.clear();
  position_ids_.clear();
  cu_seqlens_.assign(1, 0);
  past_lens_.clear();
  logit_rows_.clear();
  for (const PlannedSequence& planned : plan.sequences) {
    AppendTokens(planned, *running[planned.slot], plan.DraftsOf(planned));
    AppendLogitRows(planned);
  }
  if (logit_rows_.empty()) logit_rows_.push_back(plan.tokens - 1);
  FillBlockTable(plan, running, reservations);
  return {.input_ids = input_ids_,
          .position_ids = position_ids_,
          .cu_seqlens = cu_seqlens_,
          .past_lens = past_lens_,
          .block_table = block_table_,
          .block_columns = block_columns_,
          .logit_rows = logit_rows_};
}

void PackedStep::AppendTokens(const PlannedSequence& planned, const Sequence& sequence,
                              std::span<const int32_t> drafts) {
  const auto tokens = sequence.tokens().subspan(static_cast<size_t>(planned.first_position),
                                                static_cast<size_t>(planned.token_count - planned.draft_count));
  input_ids_.insert(input_ids_.end(), tokens.begin(), tokens.end());
  input_ids_.insert(input_ids_.end(), drafts.begin(), drafts.end());
  for (int32_t i = 0; i < planned.token_count; ++i) position_ids_.push_back(planned.first_position + i);
  past_lens_.push_back(planned.first_position);
  cu_seqlens_.push_back(planned.first_row + planned.token_count);
}

void PackedStep::AppendLogitRows(const PlannedSequence& planned) {
  const int32_t first_context_row = planned.first_row + planned.first_context_position - planned.first_position;
  for (int32_t i = 0; i < planned.context_row_count; ++i) logit_rows_.push_back(first_context_row + i);
  const int32_t end_row = planned.first_row + planned.token_count;
  for (int32_t row = end_row - planned.sample_row_count(); row < end_row; ++row) logit_rows_.push_back(row);
}

void PackedStep::FillBlockTable(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running,
                                std::span<const BlockReservation> reservations) {
  block_columns_ = 0;
  for (const PlannedSequence& planned : plan.sequences) {
    const int32_t blocks = running[planned.slot]->block_table().size() + planned.new_blocks;
    block_columns_ = std::max(block_columns_, blocks);
  }
  block_table_.assign(plan.sequences.size() * static_cast<size_t>(block_columns_), -1);
  auto row = block_table_.begin();
  for (size_t i = 0; i < plan.sequences.size(); ++i, row += block_columns_) {
    const auto held = running[plan.sequences[i].slot]->block_table().blocks();
    const auto added = reservations[i].blocks();
    std::copy(added.begin(), added.end(), std::copy(held.begin(), held.end(), row));
  }
}

}  // namespace naiad
