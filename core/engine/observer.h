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
  int32_t blocks_cached = 0;
};

struct StepStats {
  int32_t tokens = 0;     // Packed tokens.
  int32_t sequences = 0;  // Sequences with at least one token in the step.
  std::chrono::microseconds duration{0};
};

// All calls come from one engine thread, except OnRejected, which comes from the thread that submitted. Must be quick.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepStats& stats) = 0;
  virtual void OnLoad(const EngineLoad& load) = 0;
  virtual void OnInterToken(std::chrono::microseconds gap) = 0;  // Between two token deliveries of one request.
  virtual void OnFirstToken(std::chrono::microseconds time_to_first_token) = 0;
  virtual void OnFinished(const FinishedSummary& summary, std::chrono::microseconds total) = 0;
  virtual void OnRejected(ErrorCode code) = 0;
};

}  // namespace naiad
