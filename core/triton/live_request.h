// A request that Triton has handed over: answers it, reports its statistics, and gives it back.
#pragma once

#include <memory>

#include "engine/request.h"
#include "engine/status.h"
#include "triton/abi.h"
#include "triton/response_contents.h"

namespace naiad {

// When the engine worked on a request, for Triton's statistics.
struct ExecutionTimes {
  bool success = true;
  Clock::time_point start;  // First step that worked on it; before that it was queued.
  Clock::time_point end;
};

// Keeps the request until it is answered, because Triton takes statistics only for requests that are not released, and
// its counters should say how a request really ended. One thread at a time; never called under a lock of ours.
class LiveRequest {
 public:
  LiveRequest(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request);
  // Answers with an internal error if nothing ended the request, then releases it.
  ~LiveRequest();
  LiveRequest(const LiveRequest&) = delete;
  LiveRequest& operator=(const LiveRequest&) = delete;

  [[nodiscard]] TRITONBACKEND_Request* handle() const { return request_; }

  // True when the client's stream is gone.
  [[nodiscard]] bool IsCancelled() const;

  // Failures are logged, too.
  Status Send(const ResponseContents& response);
  // Each of these ends the request; exactly one of them, once.
  void Finish(const ResponseContents& response, const ExecutionTimes& times);
  void FinishWithError(const Status& status);              // An error response of Triton's, counted as a failure.
  void FinishUncounted(const ResponseContents& response);  // Not an inference: no statistics.

 private:
  void SendFinal(const ResponseContents& response);
  void SendError(const Status& status);

  TRITONBACKEND_ModelInstance* instance_;
  TRITONBACKEND_Request* request_;
  TRITONBACKEND_ResponseFactory* factory_ = nullptr;
  bool finished_ = false;
};

}  // namespace naiad
