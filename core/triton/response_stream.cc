#include "triton/response_stream.h"

#include <algorithm>
#include <utility>

#include "triton/generation_codec.h"

namespace naiad {

ResponseStream::ResponseStream(std::unique_ptr<LiveRequest> live, Clock::time_point arrival,
                               DeltaGroupMembership membership)
    : live_(std::move(live)), arrival_(arrival), membership_(std::move(membership)) {
  positions_.front() = membership_.resumed_tokens;  // A resumed request has one sequence.
}

bool ResponseStream::Send(const ResponseContents& response) { return live_->Send(response).ok(); }

void ResponseStream::OnDelta(TokenDelta delta) {
  if (membership_.group == nullptr) {
    OnDeltaLeft(Send(EncodeDelta(delta)));
    return;
  }
  int32_t& position = positions_.at(static_cast<size_t>(delta.sequence_index));
  membership_.group->Add(*this, membership_.key, position, delta);
  position += static_cast<int32_t>(delta.token_ids.size());
  has_unsent_ = true;
}

void ResponseStream::OnDeltaLeft(bool is_sent) {
  has_unsent_ = false;
  is_delta_lost_ = is_delta_lost_ || !is_sent;
}

void ResponseStream::OnStepEnd() { FlushOwn(); }

// Only the engine's thread hands out tokens, so that a request that is refused on another never touches the group.
void ResponseStream::FlushOwn() {
  if (has_unsent_) membership_.group->Flush();
}

void ResponseStream::OnFinished(TokenDelta last, const FinishedSummary& summary) {
  FlushOwn();
  FinishedSummary told = summary;
  if (is_delta_lost_) {
    told.reason = FinishReason::kError;
    told.error = Status::Internal("a response could not be sent");
  }
  success_ = success_ && told.reason != FinishReason::kError;
  start_ = std::min(start_, arrival_ + summary.queue);
  const ResponseContents response = EncodeFinished(last, told);
  if (summary.is_last) {
    live_->Finish(response, {.success = success_, .start = start_, .end = Clock::now()});
  } else {
    OnDeltaLeft(Send(response));
  }
}

bool ResponseStream::IsAbandoned() const { return is_delta_lost_ || live_->IsCancelled(); }

}  // namespace naiad
