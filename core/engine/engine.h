// The decoder engine: in-flight batching of generation requests over one ModelRunner.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "cache/cache_invariants.h"
#include "engine/engine_options.h"
#include "engine/inbox.h"
#include "engine/model_runner.h"
#include "engine/observer.h"
#include "engine/request.h"
#include "engine/status.h"

namespace naiad {

class StepLoop;

// Requests come in through a bounded inbox from any thread. One engine thread owns everything else: it takes them in
// order of arrival, and each step packs new tokens of many requests into one run of the model. What a request gets does
// not depend on its neighbours: the same tokens come out alone or batched, at any step budget, as far as the runner's
// arithmetic gives a row the same logits.
class Engine {
 public:
  // `observer` must outlive the engine. If the options do not pass ValidateEngineOptions, every Submit gives that
  // error.
  Engine(EngineOptions options, std::unique_ptr<ModelRunner> runner, EngineObserver& observer);
  // Calls Shutdown().
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts the engine thread. At most once, before other threads use the engine; without it, Step() does the work.
  void Start();

  // Hands a request in; any thread; never waits for a step. On success its sink will get OnFinished exactly once. On
  // failure `request` is left as it was and its sink is not called:
  //   kInvalidArgument    an option is out of range, the id is in use, or the request can never fit (message says why)
  //   kResourceExhausted  max_waiting_requests are waiting
  //   kUnavailable        the engine is shut down
  Status Submit(GenerationRequest&& request);

  // Ends the live request of this id, or one of its sequences, with "cancelled" before the next step runs, wherever it
  // is. Any thread. No effect: an id that is not live; a sequence that has not forked from the first one yet.
  void Stop(const std::string& request_id, std::optional<int32_t> sequence_index = std::nullopt);

  // One step by hand, for tests without Start(). False when there was nothing to do.
  bool Step();

  // Ends all live requests with kUnavailable after the step that is running, and joins the thread. Any thread but the
  // engine's own (so not from a sink); idempotent.
  void Shutdown();

  // Who owns which block. Only between steps made by hand, or after Shutdown().
  [[nodiscard]] CacheSnapshot SnapshotCache() const;

 private:
  void RunThread();

  const EngineOptions options_;
  const std::unique_ptr<ModelRunner> runner_;
  const Status options_status_;
  EngineObserver& observer_;
  Inbox inbox_;
  std::unique_ptr<StepLoop> loop_;
  std::thread thread_;
  std::once_flag shutdown_once_;
};

}  // namespace naiad
