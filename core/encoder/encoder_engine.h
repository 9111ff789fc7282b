// Batches encoder requests: a bounded inbox, one thread, and runs that are packed with whatever waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "encoder/encoder_request.h"
#include "encoder/encoder_runner.h"
#include "encoder/encoder_work.h"
#include "encoder/packed_texts.h"
#include "engine/observer.h"
#include "engine/status.h"

namespace naiad {

struct EncoderEngineOptions {
  int32_t max_batch_tokens = 512;  // Most packed tokens in one run; a longer text runs alone. At least 1. So few that
                                   // what lies between two products stays in the caches.
  int32_t max_waiting_requests = 256;  // Bound of the inbox. At least 1.
};

// Requests are worked on in the order of their arrival. A run takes as many of the next texts as fit into the token
// budget: many small requests share one, and a request of many texts is spread over several. Before each run the
// requests that nobody waits for any more leave.
class EncoderEngine {
 public:
  EncoderEngine(EncoderEngineOptions options, std::unique_ptr<EncoderRunner> runner, EngineObserver& observer);
  EncoderEngine(const EncoderEngine&) = delete;
  EncoderEngine& operator=(const EncoderEngine&) = delete;
  ~EncoderEngine();  // Shutdown()

  // Starts the engine thread, once. Unit tests call Step() instead.
  void Start();

  // Any thread. kInvalidArgument, kResourceExhausted when the inbox is full, kUnavailable after Shutdown; then
  // `request` is left as it was and its sink is not called.
  Status Submit(EncoderRequest&& request);

  // Ends the request of this id with kCancelled if no run has begun to work on it. Any thread. No effect: an id that
  // does not wait.
  void Stop(const std::string& request_id);

  // Makes one run; false when there was nothing to do. Not while the thread runs.
  bool Step();

  // Lets a run in progress end, ends all other requests with kUnavailable and joins the thread. Idempotent.
  void Shutdown();

 private:
  using Slices = std::vector<std::pair<EncoderWork*, WorkSlice>>;

  void ThreadMain();
  bool EndUnwanted();
  Slices FillRun();
  bool TakeNext();
  Status Run(const Slices& slices, std::chrono::microseconds* duration);
  void FinishCompleted();
  void FailWorks(std::deque<EncoderWork> works, const Status& status);
  void ReportLoad();

  const EncoderEngineOptions options_;
  const std::unique_ptr<EncoderRunner> runner_;
  EngineObserver& observer_;

  // Owned by the engine thread: requests in the run, in the order of arrival. After a run only the last can be
  // incomplete.
  std::deque<EncoderWork> works_;
  PackedTexts texts_;

  std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_:
  std::deque<EncoderRequest> inbox_;
  std::unordered_set<std::string> stopped_ids_;  // Of requests in the inbox.
  bool stopping_ = false;

  std::mutex thread_mutex_;  // Start and Shutdown.
  std::thread thread_;
};

}  // namespace naiad
