// The engine thread's work: one step after the other.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "cache/block_pool.h"
#include "cache/cache_invariants.h"
#include "engine/engine_options.h"
#include "engine/inbox.h"
#include "engine/model_runner.h"
#include "engine/observer.h"
#include "engine/packed_step.h"
#include "engine/sequence.h"
#include "engine/step_cost_model.h"
#include "engine/step_plan.h"
#include "engine/step_planner.h"
#include "engine/step_sampling.h"

namespace naiad {

// Owns all sequences from the inbox to their end. A step is a transaction: until the run has succeeded, no sequence
// gets on; a failed run ends the sequences of that step and nothing else. Engine thread only.
class StepLoop {
 public:
  // All references must outlive the loop. `options` must have been validated.
  StepLoop(const EngineOptions& options, ModelRunner& runner, EngineObserver& observer, Inbox& inbox);

  // Takes in `mail`, then runs one step. False when there was nothing to do.
  bool Step(Mail mail);
  // Ends all requests, those in `mail` included, with this error.
  void EndAll(Mail mail, const Status& error);

  // Whether nothing will happen until new mail comes.
  [[nodiscard]] bool is_idle() const { return running_.empty() && waiting_.empty(); }
  [[nodiscard]] CacheSnapshot Snapshot() const;

 private:
  bool TryStep(Mail mail);
  // Before the step.
  void TakeRequests(std::vector<AcceptedRequest> requests);
  // What was stopped, nobody waits for, or is past its deadline.
  bool EndUnwanted(const std::vector<StopMessage>& stops);
  void AdmitWaiting();
  [[nodiscard]] bool CanStart(const Sequence& sequence) const;
  [[nodiscard]] bool MayPushOut(const Sequence& sequence) const;
  // Beside the running sequences of at least this priority, as if the others gave their places and blocks back.
  [[nodiscard]] bool FitsBeside(const Sequence& sequence, int32_t lowest_priority) const;
  void Start(std::unique_ptr<Sequence> sequence);
  void PushOutLast();
  void ForkReady();
  void PlanStep();
  // The step itself.
  void ExecutePlan();
  Status ReserveBlocks();
  Status CopySharedBlocks();
  Status RunModel(std::span<float>* logits);
  void FailStep(const Status& error);
  void Commit(Clock::time_point now, StepStats* stats);
  void Deliver(Clock::time_point now);
  // After it.
  void ReportTokens(Sequence& sequence, size_t count, Clock::time_point now);
  void Finish(Sequence& sequence, SequenceEnd end, TokenDelta last, Clock::time_point now);
  void RemoveEnded();
  void ReportLoad();

  const EngineOptions& options_;
  ModelRunner& runner_;
  EngineObserver& observer_;
  Inbox& inbox_;

  BlockPool pool_;                                 // Before the sequences, which give their blocks back to it.
  std::deque<std::unique_ptr<Sequence>> waiting_;  // In order of rank; those that were preempted too.
  SequenceList running_;                           // In order of rank.
  StepCostModel costs_;
  StepPlanner planner_;
  int64_t step_number_ = 0;

  // Of the current step; kept so that their memory is used again.
  StepPlan plan_;
  EngineWork work_;
  SequenceList moved_;                          // On their way between the lists.
  std::vector<BlockReservation> reservations_;  // One for each of plan_.sequences.
  PackedStep packed_;
  SamplerScratch scratch_;
  std::vector<SequenceOutcome> outcomes_;  // One for each of plan_.sequences.
};

}  // namespace naiad
