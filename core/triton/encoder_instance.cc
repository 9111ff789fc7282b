#include "triton/encoder_instance.h"

#include <utility>

#include "triton/live_request.h"
#include "triton/request_contents.h"

namespace naiad {
namespace {

// The answer of one encoder request.
class ResponseOnce : public EncoderSink {
 public:
  ResponseOnce(std::unique_ptr<LiveRequest> live, EncoderOutput output, Clock::time_point arrival)
      : live_(std::move(live)), output_(output), arrival_(arrival) {}

  void OnFinished(EncoderResult result) override {
    live_->Finish(EncodeResult(result, output_),
                  {.success = true, .start = arrival_ + result.queue, .end = Clock::now()});
  }

  void OnError(const Status& status) override { live_->FinishWithError(status); }

 private:
  std::unique_ptr<LiveRequest> live_;
  EncoderOutput output_;
  Clock::time_point arrival_;
};

}  // namespace

EncoderInstance::EncoderInstance(TRITONBACKEND_ModelInstance* handle, EncoderContract contract,
                                 const EncoderEngineOptions& options, std::unique_ptr<EncoderRunner> runner,
                                 std::unique_ptr<ModelMetrics> metrics)
    : handle_(handle),
      contract_(std::move(contract)),
      observer_(handle, std::move(metrics)),
      engine_(options, std::move(runner), observer_) {
  engine_.Start();
}

void EncoderInstance::Execute(TRITONBACKEND_Request* request) {
  auto live = std::make_unique<LiveRequest>(handle_, request);
  RequestContents contents;
  EncoderRequest decoded;
  decoded.arrival = Clock::now();
  Status status = ReadRequest(request, &contents);
  if (status.ok() && IsEncoderStop(contents)) {
    engine_.Stop(contents.id);
    live->FinishUncounted({});
    return;
  }
  if (status.ok()) status = DecodeEncoder(contents, contract_, &decoded);
  decoded.sink = std::make_unique<ResponseOnce>(std::move(live), decoded.output, decoded.arrival);
  if (!status.ok()) {
    observer_.OnRejected(status.code());
  } else {
    status = engine_.Submit(std::move(decoded));
  }
  // A refused request is left as it was, with its sink.
  if (!status.ok()) decoded.sink->OnError(status);
}

}  // namespace naiad
