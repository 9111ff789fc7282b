// What the engines report about themselves. The Triton glue turns it into metrics; tests record it.
#pragma once

#include <chrono>
#include <cstdint>

#include "engine/request.h"

namespace naiad {

struct EngineLoad {
  int32_t running = 0;  // Requests in flight.
  int32_t waiting = 0;  // Requests accepted but not yet started.
  int32_t blocks_used = 0;
  int32_t blocks_free = 0;
  int32_t blocks_cached = 0;  // Held by nobody, kept for prompts to come; taken when free ones run out.
};

struct StepStats {
  int32_t tokens = 0;                // Packed tokens.
  int32_t sequences = 0;             // Sequences with at least one token in the step.
  int32_t new_tokens = 0;            // Sampled, drafts that were accepted included.
  int32_t prompt_tokens = 0;         // Of prompts, dealt with for the first time: computed, or found in the cache.
  int32_t cached_prompt_tokens = 0;  // Of these, found in the cache.
  int32_t draft_tokens = 0;          // Proposed by speculation.
  int32_t accepted_draft_tokens = 0;
  std::chrono::microseconds duration{0};
};

// Where the engine thread's time went in one turn of its loop that had something to do.
struct EngineWork {
  std::chrono::microseconds total{0};
  std::chrono::microseconds model{0};     // Of these, inside the model's graph.
  std::chrono::microseconds sampling{0};  // Of these, making tokens of logits.
};

// All calls come from one engine thread, except OnRejected, which comes from the thread that submitted, and OnFinished
// of a request that ended before it was submitted, while its guide was compiled. Must be quick.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepStats& stats) = 0;
  virtual void OnWork(const EngineWork& work) = 0;  // After everything else of its turn; not while idle.
  virtual void OnLoad(const EngineLoad& load) = 0;
  virtual void OnInterToken(std::chrono::microseconds gap) = 0;  // Between two token deliveries of one request.
  virtual void OnFirstToken(std::chrono::microseconds time_to_first_token) = 0;
  virtual void OnFinished(const FinishedSummary& summary, std::chrono::microseconds total) = 0;
  virtual void OnPreemption() = 0;  // A running sequence gave its blocks back.
  virtual void OnRejected(ErrorCode code) = 0;
};

}  // namespace naiad
