// The answers of one generation request, on their way to Triton.
#pragma once

#include <memory>

#include "engine/request.h"
#include "triton/live_request.h"

namespace naiad {

// Every sequence of the request ends with a response that carries its summary; only the one that is the request's last
// is Triton's final response and closes the request.
class ResponseStream : public GenerationSink {
 public:
  ResponseStream(std::unique_ptr<LiveRequest> live, Clock::time_point arrival);

  void OnDelta(TokenDelta delta) override;
  void OnFinished(TokenDelta last, const FinishedSummary& summary) override;
  [[nodiscard]] bool IsAbandoned() const override;

 private:
  std::unique_ptr<LiveRequest> live_;
  Clock::time_point arrival_;
  Clock::time_point start_ = Clock::time_point::max();  // First work on any sequence.
  bool success_ = true;                                 // No sequence has failed.
};

}  // namespace naiad
