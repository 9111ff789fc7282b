#include "triton/generation_codec.h"

#include <utility>

#include "triton/deadline.h"
#include "triton/parameter_reader.h"

namespace naiad {
namespace {

constexpr size_t kMaxDeltaGroupBytes = 64;

Status DecodeLogitBias(const RequestContents& contents, std::vector<LogitBias>* biases) {
  std::vector<int32_t> ids;
  std::vector<float> values;
  if (Status status = FindInt32Input(contents, "logit_bias_ids", &ids); !status.ok()) return status;
  if (Status status = FindFloatInput(contents, "logit_bias_values", &values); !status.ok()) return status;
  if (ids.size() != values.size()) {
    return Status::InvalidArgument("logit_bias_values has " + std::to_string(values.size()) +
                                   " values, but logit_bias_ids has " + std::to_string(ids.size()));
  }
  for (size_t index = 0; index < ids.size(); ++index) biases->push_back({ids[index], values[index]});
  return Status::Ok();
}

Status DecodeTensors(const RequestContents& contents, GenerationRequest* request) {
  if (Status status = FindInt32Input(contents, "input_ids", &request->prompt_token_ids); !status.ok()) return status;
  if (request->prompt_token_ids.empty()) return Status::InvalidArgument("input_ids must hold at least one token");
  Status status = FindInt32Input(contents, "stop_token_ids", &request->stopping.stop_token_ids);
  return status.ok() ? DecodeLogitBias(contents, &request->sampling.logit_bias) : status;
}

Status DecodeOptions(ParameterReader& parameters, GenerationRequest* request) {
  request->stopping = {.max_tokens = parameters.Int32("request_output_len", 0),
                       .min_tokens = parameters.Int32("min_tokens", 0),
                       .stop_token_ids = std::move(request->stopping.stop_token_ids),
                       .ignore_eos = parameters.Bool("ignore_eos", false)};
  request->sampling = {.temperature = parameters.Float("temperature", 0.0F),
                       .top_k = parameters.Int32("runtime_top_k", 0),
                       .top_p = parameters.Float("runtime_top_p", 1.0F),
                       .min_p = parameters.Float("min_p", 0.0F),
                       .repetition_penalty = parameters.Float("repetition_penalty", 1.0F),
                       .presence_penalty = parameters.Float("presence_penalty", 0.0F),
                       .frequency_penalty = parameters.Float("frequency_penalty", 0.0F),
                       .seed = static_cast<uint64_t>(parameters.Int64("seed", 0)),
                       .logit_bias = std::move(request->sampling.logit_bias)};
  request->output = {.log_probs = parameters.Bool("return_log_probs", false),
                     .top_log_probs = parameters.Int32("top_log_probs", 0),
                     .context_log_probs = parameters.Bool("return_context_log_probs", false)};
  request->priority = parameters.Int32("request_priority", 0);
  request->num_sequences = parameters.Int32("num_return_sequences", 1);
  request->use_prefix_cache = parameters.Bool("use_prefix_cache", true);
  request->resume = {.tokens = parameters.Int32("resumed_tokens", 0),
                     .sequence_index = parameters.Int32("resumed_sequence", 0)};
  if (parameters.Has("max_draft_tokens")) request->max_draft_tokens = parameters.Int32("max_draft_tokens", 0);
  if (!parameters.Has("request_output_len")) return Status::InvalidArgument("request_output_len is missing");
  return Status::Ok();
}

Status DecodeGuideKind(const std::string& type, GuideSpec::Kind* kind) {
  if (type == "json_schema") {
    *kind = GuideSpec::Kind::kJsonSchema;
  } else if (type == "regex") {
    *kind = GuideSpec::Kind::kRegex;
  } else if (type == "json") {
    *kind = GuideSpec::Kind::kJson;
  } else {
    return Status::InvalidArgument("guided_decoding_guide_type must be json_schema, regex or json");
  }
  return Status::Ok();
}

Status CheckGuideText(const GuideSpec& guide) {
  if (guide.text.size() > kMaxGuideBytes) {
    return Status::InvalidArgument("guided_decoding_guide has " + std::to_string(guide.text.size()) +
                                   " bytes; at most " + std::to_string(kMaxGuideBytes) + " are taken");
  }
  const bool needs_text = guide.kind != GuideSpec::Kind::kJson;
  if (needs_text == guide.text.empty()) {
    return Status::InvalidArgument(std::string("guided_decoding_guide must ") + (needs_text ? "not " : "") +
                                   "be empty with this guided_decoding_guide_type");
  }
  return Status::Ok();
}

Status DecodeGuide(ParameterReader& parameters, const StoppingOptions& stopping, std::optional<GuideSpec>* guide) {
  const std::string type = parameters.Text("guided_decoding_guide_type", "");
  GuideSpec spec{.text = parameters.Text("guided_decoding_guide", "")};
  if (!parameters.Has("guided_decoding_guide_type")) {
    if (!parameters.Has("guided_decoding_guide")) return Status::Ok();
    return Status::InvalidArgument("guided_decoding_guide needs guided_decoding_guide_type");
  }
  if (Status status = DecodeGuideKind(type, &spec.kind); !status.ok()) return status;
  if (Status status = CheckGuideText(spec); !status.ok()) return status;
  // The guide alone says when a text is complete.
  if (stopping.ignore_eos) return Status::InvalidArgument("ignore_eos must not be set together with a guide");
  if (stopping.min_tokens > 0) return Status::InvalidArgument("min_tokens must be 0 together with a guide");
  *guide = std::move(spec);
  return Status::Ok();
}

// Log-probabilities do not fit into the common response, so that a request that wants them is sent its own.
Status DecodeDeltaGroup(ParameterReader& parameters, const OutputOptions& output,
                        std::optional<DeltaGroupName>* delta_group) {
  DeltaGroupName name{.group = parameters.Text("delta_group", ""), .key = parameters.Int32("delta_key", 0)};
  if (!parameters.Has("delta_group") && !parameters.Has("delta_key")) return Status::Ok();
  if (!parameters.Has("delta_key")) return Status::InvalidArgument("delta_group needs delta_key");
  if (name.group.empty() || name.group.size() > kMaxDeltaGroupBytes) {
    return Status::InvalidArgument("delta_group must have 1 to " + std::to_string(kMaxDeltaGroupBytes) + " bytes");
  }
  if (name.key < 0) return Status::InvalidArgument("delta_key must be at least 0");
  if (!output.log_probs && !output.context_log_probs) *delta_group = std::move(name);
  return Status::Ok();
}

Status DecodeStop(ParameterReader& parameters, DecodedGeneration* decoded) {
  if (parameters.Has("sequence_index")) decoded->stop_sequence = parameters.Int32("sequence_index", 0);
  if (Status status = parameters.Finish(); !status.ok()) return status;
  const int32_t sequence = decoded->stop_sequence.value_or(0);
  if (sequence >= 0 && sequence < kMaxSequences) return Status::Ok();
  return Status::InvalidArgument("sequence_index is " + std::to_string(sequence) + "; it must be from 0 to " +
                                 std::to_string(kMaxSequences - 1));
}

void AddLogProbs(const LogProbs& log_probs, const char* chosen, const char* top_ids, const char* top_values,
                 ResponseContents* response) {
  const auto rows = static_cast<int64_t>(log_probs.chosen.size());
  if (rows == 0) return;
  response->tensors.push_back(FloatTensor(chosen, log_probs.chosen, {rows}));
  if (log_probs.top_count == 0) return;
  response->tensors.push_back(Int32Tensor(top_ids, log_probs.top_ids, {rows, log_probs.top_count}));
  response->tensors.push_back(FloatTensor(top_values, log_probs.top_values, {rows, log_probs.top_count}));
}

}  // namespace

Status DecodeGeneration(const RequestContents& contents, DecodedGeneration* decoded) {
  decoded->request.id = contents.id;
  if (contents.id.empty()) return Status::InvalidArgument("id is empty; a request needs one");
  ParameterReader parameters(contents.parameters);
  decoded->is_stop = parameters.Bool("stop", false);
  if (decoded->is_stop) return DecodeStop(parameters, decoded);
  if (Status status = DecodeTensors(contents, &decoded->request); !status.ok()) return status;
  if (Status status = DecodeOptions(parameters, &decoded->request); !status.ok()) return status;
  const Status guide_status = DecodeGuide(parameters, decoded->request.stopping, &decoded->guide);
  const Status deadline_status = ReadDeadline(parameters, decoded->request.arrival, &decoded->request.deadline);
  const Status group_status = DecodeDeltaGroup(parameters, decoded->request.output, &decoded->delta_group);
  // A parameter of a wrong type explains more than the default that was read in its place.
  const Status status = parameters.Finish();
  if (!status.ok()) return status;
  if (!guide_status.ok()) return guide_status;
  return deadline_status.ok() ? group_status : deadline_status;
}

namespace {

ResponseContents Encode(const TokenDelta& delta, int32_t sequence_index) {
  ResponseContents response;
  const auto count = static_cast<int64_t>(delta.token_ids.size());
  response.tensors.push_back(Int32Tensor("output_ids", delta.token_ids, {count}));
  AddLogProbs(delta.log_probs, "output_log_probs", "top_log_prob_ids", "top_log_prob_values", &response);
  AddLogProbs(delta.context_log_probs, "context_log_probs", "context_top_ids", "context_top_values", &response);
  response.numbers.push_back({"sequence_index", sequence_index});
  return response;
}

}  // namespace

ResponseContents EncodeDeltas(const std::vector<int32_t>& message, int64_t delta_count) {
  ResponseContents response;
  response.tensors.push_back(Int32Tensor("output_ids", message, {static_cast<int64_t>(message.size())}));
  response.numbers.push_back({"delta_count", delta_count});
  return response;
}

ResponseContents EncodeDelta(const TokenDelta& delta) { return Encode(delta, delta.sequence_index); }

ResponseContents EncodeFinished(const TokenDelta& last, const FinishedSummary& summary) {
  ResponseContents response = Encode(last, summary.sequence_index);
  response.texts.push_back({"finish_reason", std::string(FinishReasonName(summary.reason))});
  if (summary.reason == FinishReason::kError) {
    response.texts.push_back({"error_code", std::string(ErrorCodeName(summary.error.code()))});
    response.texts.push_back({"error_message", summary.error.message()});
  }
  if (summary.stop_token_id.has_value()) response.numbers.push_back({"stop_token_id", *summary.stop_token_id});
  response.numbers.insert(response.numbers.end(), {{"prompt_tokens", summary.prompt_tokens},
                                                   {"cached_prompt_tokens", summary.cached_prompt_tokens},
                                                   {"completion_tokens", summary.completion_tokens},
                                                   {"preemptions", summary.preemptions},
                                                   {"queue_us", summary.queue.count()},
                                                   {"prefill_us", summary.prefill.count()},
                                                   {"decode_us", summary.decode.count()},
                                                   {"time_to_first_token_us", summary.time_to_first_token.count()}});
  return response;
}

}  // namespace naiad
