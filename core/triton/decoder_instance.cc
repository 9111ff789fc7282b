#include "triton/decoder_instance.h"

#include <algorithm>
#include <utility>

#include "triton/generation_codec.h"
#include "triton/live_request.h"
#include "triton/request_contents.h"
#include "triton/response_stream.h"

namespace naiad {
namespace {

// Nothing is known of what was refused but why: its options may be what was wrong.
void Refuse(GenerationSink& sink, const Status& status) {
  FinishedSummary summary;
  summary.reason = FinishReason::kError;
  summary.error = status;
  sink.OnFinished({}, summary);
}

// Ends a request that the engine never had: each of its sequences.
void Cancel(const GenerationRequest& request, EngineObserver& observer) {
  const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - request.arrival);
  // The engine has not checked it yet.
  const int32_t num_sequences = std::clamp(request.num_sequences, 1, kMaxSequences);
  for (int32_t index = 0; index < num_sequences; ++index) {
    FinishedSummary summary;
    summary.sequence_index = index;
    summary.is_last = index + 1 == num_sequences;
    summary.reason = FinishReason::kCancelled;
    const auto all_tokens = static_cast<int32_t>(request.prompt_token_ids.size());
    summary.prompt_tokens = all_tokens - std::clamp(request.resume.tokens, 0, all_tokens);
    summary.queue = waited;
    observer.OnFinished(summary, waited);
    TokenDelta nothing;
    nothing.sequence_index = index;
    request.sink->OnFinished(std::move(nothing), summary);
  }
}

}  // namespace

DecoderInstance::DecoderInstance(TRITONBACKEND_ModelInstance* handle, const EngineOptions& options,
                                 std::unique_ptr<ModelRunner> runner, std::unique_ptr<ModelMetrics> metrics,
                                 CompileGuide compile_guide, FindGuide find_guide)
    : handle_(handle), observer_(handle, std::move(metrics)), engine_(options, std::move(runner), observer_) {
  engine_.Start();
  if (compile_guide == nullptr) return;
  guide_queue_ = std::make_unique<GuideQueue>(TargetsOfGuides(std::move(compile_guide), std::move(find_guide)),
                                              options.max_waiting_requests);
}

GuideQueueTargets DecoderInstance::TargetsOfGuides(CompileGuide compile_guide, FindGuide find_guide) {
  GuideQueueTargets targets;
  targets.compile = std::move(compile_guide);
  targets.find = [find = std::move(find_guide)](const GuideSpec& guide) {
    return find == nullptr ? nullptr : find(guide);
  };
  targets.submit = [this](GenerationRequest&& request) { return engine_.Submit(std::move(request)); };
  targets.refuse = [this](GenerationRequest&& request, const Status& status) {
    // One that has its grammar got as far as the engine, which counts what it refuses.
    if (request.grammar == nullptr) observer_.OnRejected(status.code());
    Refuse(*request.sink, status);
  };
  targets.cancel = [this](GenerationRequest&& request) { Cancel(request, observer_); };
  return targets;
}

// A refused request is left as it was, with its sink.
Status DecoderInstance::Submit(DecodedGeneration& decoded) {
  if (!decoded.guide.has_value()) return engine_.Submit(std::move(decoded.request));
  const Status status = guide_queue_ != nullptr
                            ? guide_queue_->Push(std::move(*decoded.guide), std::move(decoded.request))
                            : Status::InvalidArgument("guided_decoding_guide_type: no guide is supported");
  if (!status.ok() && decoded.request.grammar == nullptr) observer_.OnRejected(status.code());
  return status;
}

void DecoderInstance::Stop(const DecodedGeneration& decoded) {
  const auto stop = [&] { engine_.Stop(decoded.request.id, decoded.stop_sequence); };
  // A single sequence of a request whose guide is still in work goes on, like one that has not forked yet.
  if (guide_queue_ == nullptr || decoded.stop_sequence.has_value()) return stop();
  guide_queue_->Stop(decoded.request.id, stop);
}

DeltaGroupMembership DecoderInstance::MembershipOf(const DecodedGeneration& decoded) {
  if (!decoded.delta_group.has_value()) return {};
  return {.group = delta_groups_.Get(decoded.delta_group->group),
          .key = decoded.delta_group->key,
          .resumed_tokens = decoded.request.resume.tokens};
}

void DecoderInstance::Execute(TRITONBACKEND_Request* request) {
  auto live = std::make_unique<LiveRequest>(handle_, request);
  RequestContents contents;
  DecodedGeneration decoded;
  Status status = ReadRequest(request, &contents);
  if (status.ok()) status = DecodeGeneration(contents, &decoded);
  if (status.ok() && decoded.is_stop) {
    Stop(decoded);
    live->FinishUncounted({});
    return;
  }
  decoded.request.sink =
      std::make_unique<ResponseStream>(std::move(live), decoded.request.arrival, MembershipOf(decoded));
  if (!status.ok()) {
    observer_.OnRejected(status.code());
  } else {
    status = Submit(decoded);
  }
  if (!status.ok()) Refuse(*decoded.request.sink, status);
}

}  // namespace naiad
