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
#include "engine/scheduler_policy.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"
#include "engine/step_sampling.h"

namespace naiad {

// Owns all requests from the inbox to their end. A step is a transaction: until the run has succeeded and all tokens
// are chosen, no sequence is changed; a failed run ends the sequences of that step and nothing else. Engine thread
// only.
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
  // Before the step.
  void TakeRequests(std::vector<AcceptedRequest> requests);
  bool EndStoppedAndAbandoned(const std::vector<uint64_t>& stops);
  void AdmitWaiting();
  // The step itself.
  void PlanStep();
  void PlanSequence(size_t slot, int32_t token_count);
  void ExecutePlan();
  Status ReserveBlocks();
  Status RunModel(std::span<float>* logits);
  void FailStep(const Status& error);
  void Commit(Clock::time_point now);
  void Deliver(Clock::time_point now);
  // After it.
  void ReportToken(const Sequence& sequence, std::optional<Clock::time_point> previous, Clock::time_point now);
  void Finish(Sequence& sequence, SequenceEnd end, TokenDelta last, Clock::time_point now);
  void RemoveEnded();
  void ReportLoad();

  const EngineOptions& options_;
  ModelRunner& runner_;
  EngineObserver& observer_;
  Inbox& inbox_;

  BlockPool pool_;                                  // Before the sequences, which give their blocks back to it.
  std::deque<std::unique_ptr<Sequence>> waiting_;   // In order of arrival.
  std::vector<std::unique_ptr<Sequence>> running_;  // In order of admission.
  int64_t step_number_ = 0;

  // Of the current step; kept so that their memory is used again.
  std::vector<int32_t> blocks_needed_;
  std::vector<SequenceDemand> demands_;
  StepShares shares_;
  StepPlan plan_;
  std::vector<BlockReservation> reservations_;  // One for each of plan_.sequences.
  PackedStep packed_;
  SamplerScratch scratch_;
  std::vector<SequenceOutcome> outcomes_;  // One for each of plan_.sequences.
};

}  // namespace naiad
