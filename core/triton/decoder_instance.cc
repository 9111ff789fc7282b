#include "triton/decoder_instance.h"

#include <utility>

#include "triton/generation_codec.h"
#include "triton/live_request.h"
#include "triton/request_contents.h"
#include "triton/response_stream.h"

namespace naiad {
namespace {

void Refuse(GenerationSink& sink, const Status& status) {
  FinishedSummary summary;
  summary.reason = FinishReason::kError;
  summary.error = status;
  sink.OnFinished({}, summary);
}

}  // namespace

DecoderInstance::DecoderInstance(TRITONBACKEND_ModelInstance* handle, const EngineOptions& options,
                                 std::unique_ptr<ModelRunner> runner, std::unique_ptr<ModelMetrics> metrics,
                                 CompileGuide compile_guide)
    : handle_(handle),
      compile_guide_(std::move(compile_guide)),
      observer_(handle, std::move(metrics)),
      engine_(options, std::move(runner), observer_) {
  engine_.Start();
}

Status DecoderInstance::Compile(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar) const {
  if (compile_guide_ == nullptr) return Status::InvalidArgument("guided_decoding_guide_type: no guide is supported");
  const Status status = compile_guide_(guide, grammar);
  if (status.code() != ErrorCode::kInvalidArgument) return status;
  return Status::InvalidArgument("guided_decoding_guide: " + status.message());
}

void DecoderInstance::Execute(TRITONBACKEND_Request* request) {
  auto live = std::make_unique<LiveRequest>(handle_, request);
  RequestContents contents;
  DecodedGeneration decoded;
  Status status = ReadRequest(request, &contents);
  if (status.ok()) status = DecodeGeneration(contents, &decoded);
  if (status.ok() && decoded.is_stop) {
    engine_.Stop(decoded.request.id, decoded.stop_sequence);
    live->FinishUncounted({});
    return;
  }
  if (status.ok() && decoded.guide.has_value()) status = Compile(*decoded.guide, &decoded.request.grammar);
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
