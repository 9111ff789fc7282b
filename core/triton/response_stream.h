// The answers of one generation request, on their way to Triton.
#pragma once

#include <array>
#include <memory>

#include "engine/request.h"
#include "triton/delta_group.h"
#include "triton/live_request.h"

namespace naiad {

// The group through which a request's new tokens go, and the request's number in it. Without a group each delta is a
// response of the request's own.
struct DeltaGroupMembership {
  std::shared_ptr<DeltaGroup> group;
  int32_t key = 0;
  int32_t resumed_tokens = 0;  // New tokens that the client has from an earlier run of the request.
};

// Every sequence of the request ends with a response that carries its summary; only the one that is the request's last
// is Triton's final response and closes the request.
class ResponseStream : public GenerationSink {
 public:
  ResponseStream(std::unique_ptr<LiveRequest> live, Clock::time_point arrival, DeltaGroupMembership membership = {});

  void OnDelta(TokenDelta delta) override;
  void OnStepEnd() override;
  void OnFinished(TokenDelta last, const FinishedSummary& summary) override;
  [[nodiscard]] bool IsAbandoned() const override;

  // Sends a response of this request that is not its last; whether it went.
  bool Send(const ResponseContents& response);
  // The group holds no tokens of this request any more. If they could not be sent the request is to end, as an error.
  void OnDeltaLeft(bool is_sent);

 private:
  void FlushOwn();  // If the group holds tokens of ours.

  std::unique_ptr<LiveRequest> live_;
  Clock::time_point arrival_;
  DeltaGroupMembership membership_;
  std::array<int32_t, kMaxSequences> positions_{};      // Tokens of each sequence that were handed to the group.
  bool has_unsent_ = false;                             // The group holds tokens of ours, and a pointer to us.
  bool is_delta_lost_ = false;                          // So the rest would not be what was generated.
  Clock::time_point start_ = Clock::time_point::max();  // First work on any sequence.
  bool success_ = true;                                 // No sequence has failed.
};

}  // namespace naiad
