#include "triton/response_stream.h"

#include <algorithm>
#include <utility>

#include "triton/generation_codec.h"

namespace naiad {

ResponseStream::ResponseStream(std::unique_ptr<LiveRequest> live, Clock::time_point arrival)
    : live_(std::move(live)), arrival_(arrival) {}

void ResponseStream::OnDelta(TokenDelta delta) { live_->Send(EncodeDelta(delta)); }

void ResponseStream::OnFinished(TokenDelta last, const FinishedSummary& summary) {
  success_ = success_ && summary.reason != FinishReason::kError;
  start_ = std::min(start_, arrival_ + summary.queue);
  const ResponseContents response = EncodeFinished(last, summary);
  if (summary.is_last) {
    live_->Finish(response, {.success = success_, .start = start_, .end = Clock::now()});
  } else {
    live_->Send(response);
  }
}

bool ResponseStream::IsAbandoned() const { return live_->IsCancelled(); }

}  // namespace naiad
