#include "triton/decoder_instance.h"

#include <utility>

#include "triton/generation_codec.h"
#include "triton/live_request.h"
#include "triton/request_contents.h"

namespace naiad {
namespace {

// The answers of one generation request.
class ResponseStream : public GenerationSink {
 public:
  ResponseStream(std::unique_ptr<LiveRequest> live, Clock::time_point arrival)
      : live_(std::move(live)), arrival_(arrival) {}

  void OnDelta(TokenDelta delta) override { live_->Send(EncodeDelta(delta)); }

  void OnFinished(TokenDelta last, const FinishedSummary& summary) override {
    live_->Finish(
        EncodeFinished(last, summary),
        {.success = summary.reason != FinishReason::kError, .start = arrival_ + summary.queue, .end = Clock::now()});
  }

  [[nodiscard]] bool IsAbandoned() const override { return live_->IsCancelled(); }

 private:
  std::unique_ptr<LiveRequest> live_;
  Clock::time_point arrival_;
};

void Refuse(GenerationSink& sink, const Status& status) {
  FinishedSummary summary;
  summary.reason = FinishReason::kError;
  summary.error = status;
  sink.OnFinished({}, summary);
}

}  // namespace

DecoderInstance::DecoderInstance(TRITONBACKEND_ModelInstance* handle, const EngineOptions& options,
                                 std::unique_ptr<ModelRunner> runner, std::unique_ptr<ModelMetrics> metrics)
    : handle_(handle), observer_(handle, std::move(metrics)), engine_(options, std::move(runner), observer_) {
  engine_.Start();
}

void DecoderInstance::Execute(TRITONBACKEND_Request* request) {
  auto live = std::make_unique<LiveRequest>(handle_, request);
  RequestContents contents;
  DecodedGeneration decoded;
  Status status = ReadRequest(request, &contents);
  if (status.ok()) status = DecodeGeneration(contents, &decoded);
  if (status.ok() && decoded.is_stop) {
    engine_.Stop(decoded.request.id);
    live->FinishUncounted({});
    return;
  }
  decoded.request.sink = std::make_unique<ResponseStream>(std::move(live), decoded.request.arrival);
  if (!status.ok()) {
    observer_.OnRejected(status.code());
  } else {
    status = engine_.Submit(std::move(decoded.request));
  }
  // A refused request is left as it was, with its sink.
  if (!status.ok()) Refuse(*decoded.request.sink, status);
}

}  // namespace naiad
