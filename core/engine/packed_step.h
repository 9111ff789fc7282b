// The packed tensors of one step.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/block_pool.h"
#include "engine/model_runner.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"

namespace naiad {

// Memory behind a PackedBatch, used again from step to step.
class PackedStep {
 public:
  // Lays out the tokens of `plan`. `reservations[i]` are the new blocks of plan.sequences[i]. The batch is valid until
  // the next call. It asks for at least one row of logits, so that no runner has to handle none.
  PackedBatch Build(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running,
                    std::span<const BlockReservation> reservations);

 private:
  void AppendTokens(const PlannedSequence& planned, const Sequence& sequence, std::span<const int32_t> drafts);
  void AppendLogitRows(const PlannedSequence& planned);
  void FillBlockTable(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running,
                      std::span<const BlockReservation> reservations);

  std::vector<int64_t> input_ids_;
  std::vector<int64_t> position_ids_;
  std::vector<int32_t> cu_seqlens_;
  std::vector<int32_t> past_lens_;
  std::vector<int32_t> block_table_;
  std::vector<int64_t> logit_rows_;
  int32_t block_columns_ = 0;
};

}  // namespace naiad
