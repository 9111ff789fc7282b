// Decides what the next step does.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cache/block_pool.h"
#include "engine/engine_options.h"
#include "engine/scheduler_policy.h"
#include "engine/sequence.h"
#include "engine/step_cost_model.h"
#include "engine/step_plan.h"

namespace naiad {

using SequenceList = std::vector<std::unique_ptr<Sequence>>;  // In order of rank.

// Engine thread only.
class StepPlanner {
 public:
  // All references must outlive the planner.
  StepPlanner(const EngineOptions& options, BlockPool& pool, const StepCostModel& costs)
      : options_(options), pool_(pool), costs_(costs) {}

  // Sets `plan` to the next step of `running`, for which the pool has enough blocks: when it has not, the sequences
  // that rank last are moved from `running` to `pushed_out`, which is replaced. The first in rank always gets on.
  void Plan(SequenceList* running, StepPlan* plan, SequenceList* pushed_out);

 private:
  void Share(const SequenceList& running);
  void ProposeDrafts(const SequenceList& running);
  void MakeRoom(SequenceList* running, SequenceList* pushed_out);
  [[nodiscard]] int32_t DraftCount(size_t slot) const { return static_cast<int32_t>(drafts_[slot].size()); }
  [[nodiscard]] int32_t NewBlocks(const Sequence& sequence, size_t slot) const;
  [[nodiscard]] int32_t WantedBlocks(const SequenceList& running) const;
  void PlanSequence(const Sequence& sequence, size_t slot, StepPlan* plan) const;

  const EngineOptions& options_;
  BlockPool& pool_;
  const StepCostModel& costs_;

  // Of the current step; kept so that their memory is used again. One entry for each running sequence.
  std::vector<SequenceDemand> demands_;
  StepShares shares_;
  std::vector<std::vector<int32_t>> drafts_;
};

}  // namespace naiad
