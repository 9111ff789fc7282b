#include "engine/request_validation.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include "cache/block_pool.h"

namespace naiad {
namespace {

Status Invalid(std::string message) { return Status::InvalidArgument(std::move(message)); }

// Shortest common form, for instance "0.5" or "nan".
std::string Number(float value) {
  std::string text = std::to_string(value);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text;
}

Status CheckRange(const char* field, float value, float min, float max) {
  // Written so that NaN fails.
  if (value >= min && value <= max) return Status::Ok();
  return Invalid(std::string(field) + " is " + Number(value) + "; it must be from " + Number(min) + " to " +
                 Number(max));
}

Status CheckRangeOverZero(const char* field, float value, float max) {
  if (value > 0.0F && value <= max) return Status::Ok();
  return Invalid(std::string(field) + " is " + Number(value) + "; it must be over 0 and at most " + Number(max));
}

Status CheckTokenId(const char* field, int32_t token_id, const DecoderShape& shape) {
  if (token_id >= 0 && token_id < shape.vocabulary_size) return Status::Ok();
  return Invalid(std::string(field) + " holds " + std::to_string(token_id) + "; token ids are 0 to " +
                 std::to_string(shape.vocabulary_size - 1));
}

Status CheckTokenIds(const char* field, std::span<const int32_t> token_ids, const DecoderShape& shape) {
  for (const int32_t token_id : token_ids) {
    if (Status status = CheckTokenId(field, token_id, shape); !status.ok()) return status;
  }
  return Status::Ok();
}

Status CheckLogitBias(const std::vector<LogitBias>& biases, const DecoderShape& shape) {
  if (biases.size() > kMaxLogitBiasEntries) {
    return Invalid("logit_bias has " + std::to_string(biases.size()) + " entries; at most " +
                   std::to_string(kMaxLogitBiasEntries) + " are taken");
  }
  for (const LogitBias& entry : biases) {
    if (Status status = CheckTokenId("logit_bias", entry.token_id, shape); !status.ok()) return status;
    if (Status status = CheckRange("logit_bias", entry.bias, -kMaxLogitBias, kMaxLogitBias); !status.ok())
      return status;
  }
  return Status::Ok();
}

Status CheckSampling(const SamplingOptions& sampling, const DecoderShape& shape) {
  constexpr float kMaxPenalty = kMaxPresenceOrFrequencyPenalty;
  if (sampling.top_k < 0) {
    return Invalid("top_k is " + std::to_string(sampling.top_k) + "; it must be 0 (all tokens) or more");
  }
  for (const Status& status :
       {CheckRange("temperature", sampling.temperature, 0.0F, kMaxTemperature),
        CheckRangeOverZero("top_p", sampling.top_p, 1.0F), CheckRange("min_p", sampling.min_p, 0.0F, 1.0F),
        CheckRangeOverZero("repetition_penalty", sampling.repetition_penalty, kMaxRepetitionPenalty),
        CheckRange("presence_penalty", sampling.presence_penalty, -kMaxPenalty, kMaxPenalty),
        CheckRange("frequency_penalty", sampling.frequency_penalty, -kMaxPenalty, kMaxPenalty),
        CheckLogitBias(sampling.logit_bias, shape)}) {
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

Status CheckStopping(const StoppingOptions& stopping, const OutputOptions& output, const DecoderShape& shape) {
  if (stopping.max_tokens < 0) {
    return Invalid("max_tokens is " + std::to_string(stopping.max_tokens) + "; it must not be negative");
  }
  if (stopping.max_tokens == 0 && !output.context_log_probs) {
    return Invalid("max_tokens is 0; that is allowed only together with context log-probabilities");
  }
  if (stopping.min_tokens < 0 || stopping.min_tokens > stopping.max_tokens) {
    return Invalid("min_tokens is " + std::to_string(stopping.min_tokens) + "; it must be from 0 to max_tokens, " +
                   std::to_string(stopping.max_tokens));
  }
  if (stopping.stop_token_ids.size() > kMaxStopTokenIds) {
    return Invalid("stop_token_ids has " + std::to_string(stopping.stop_token_ids.size()) + " entries; at most " +
                   std::to_string(kMaxStopTokenIds) + " are taken");
  }
  return CheckTokenIds("stop_token_ids", stopping.stop_token_ids, shape);
}

Status CheckOutput(const OutputOptions& output, const DecoderShape& shape) {
  const int32_t max_top = std::min(kMaxTopLogProbs, shape.vocabulary_size);
  if (output.top_log_probs < 0 || output.top_log_probs > max_top) {
    return Invalid("top_log_probs is " + std::to_string(output.top_log_probs) + "; it must be from 0 to " +
                   std::to_string(max_top));
  }
  if (output.top_log_probs > 0 && !output.log_probs && !output.context_log_probs) {
    return Invalid("top_log_probs is " + std::to_string(output.top_log_probs) +
                   "; it needs log-probabilities of new tokens or of the context");
  }
  return Status::Ok();
}

Status CheckIntRange(const char* field, int32_t value, int32_t min, int32_t max) {
  if (value >= min && value <= max) return Status::Ok();
  return Invalid(std::string(field) + " is " + std::to_string(value) + "; it must be from " + std::to_string(min) +
                 " to " + std::to_string(max));
}

Status CheckScheduling(const GenerationRequest& request) {
  if (Status status = CheckIntRange("priority", request.priority, -kMaxPriority, kMaxPriority); !status.ok()) {
    return status;
  }
  if (request.max_draft_tokens.value_or(0) < 0) {
    return Invalid("max_draft_tokens is " + std::to_string(*request.max_draft_tokens) + "; it must not be negative");
  }
  const int32_t most_sequences = request.stopping.max_tokens == 0 ? 1 : kMaxSequences;
  return CheckIntRange("num_sequences", request.num_sequences, 1, most_sequences);
}

// One sequence goes on at a time, and always by at least one token.
Status CheckResume(const GenerationRequest& request) {
  const ResumeOptions& resume = request.resume;
  const auto all_tokens = static_cast<int32_t>(request.prompt_token_ids.size());
  if (Status status = CheckIntRange("resumed_tokens", resume.tokens, 0, all_tokens - 1); !status.ok()) return status;
  if (resume.tokens > 0 && resume.tokens >= request.stopping.max_tokens) {
    return Invalid("resumed_tokens is " + std::to_string(resume.tokens) + "; it must be less than max_tokens, " +
                   std::to_string(request.stopping.max_tokens));
  }
  if (Status status = CheckIntRange("resumed_sequence", resume.sequence_index, 0, kMaxSequences - 1); !status.ok()) {
    return status;
  }
  if (resume.tokens == 0 && resume.sequence_index == 0) return Status::Ok();
  if (request.num_sequences > 1) return Invalid("num_sequences must be 1 in a request that is resumed");
  if (request.output.context_log_probs) {
    return Invalid("resumed_tokens does not go with log-probabilities of the context");
  }
  return Status::Ok();
}

// What a grammar and the stopping options both decide.
Status CheckGrammar(const GenerationRequest& request) {
  if (request.grammar == nullptr) return Status::Ok();
  if (request.stopping.ignore_eos) return Invalid("ignore_eos does not go with a guide, which says when a text ends");
  if (request.stopping.min_tokens > 0)
    return Invalid("min_tokens does not go with a guide, which says when a text ends");
  return Status::Ok();
}

Status CheckFits(const GenerationRequest& request, const DecoderShape& shape) {
  const int64_t prompt = static_cast<int64_t>(request.prompt_token_ids.size()) - request.resume.tokens;
  const int64_t max_tokens = request.stopping.max_tokens;
  const std::string sizes = "max_tokens: the prompt has " + std::to_string(prompt) + " tokens and max_tokens is " +
                            std::to_string(max_tokens);
  if (prompt + max_tokens > shape.context_length_tokens) {
    return Invalid(sizes + "; together they must not exceed the model's context of " +
                   std::to_string(shape.context_length_tokens) + " tokens");
  }
  const int32_t blocks = BlocksForPositions(MaxCachedPositions(request), shape.block_tokens);
  if (blocks > shape.num_blocks) {
    return Invalid(sizes + "; they need " + std::to_string(blocks) + " blocks of the KV cache, which has " +
                   std::to_string(shape.num_blocks) + " blocks of " + std::to_string(shape.block_tokens) + " tokens");
  }
  return Status::Ok();
}

}  // namespace

int32_t MaxCachedPositions(const GenerationRequest& request) {
  const int32_t prompt = static_cast<int32_t>(request.prompt_token_ids.size()) - request.resume.tokens;
  return prompt + std::max(request.stopping.max_tokens, 1) - 1;
}

Status ValidateRequest(const GenerationRequest& request, const DecoderShape& shape) {
  if (request.sink == nullptr) return Invalid("sink is missing");
  if (request.id.empty()) return Invalid("id is empty");
  if (request.prompt_token_ids.empty()) return Invalid("prompt_token_ids is empty; a prompt has at least 1 token");
  for (const Status& status :
       {CheckTokenIds("prompt_token_ids", request.prompt_token_ids, shape), CheckSampling(request.sampling, shape),
        CheckStopping(request.stopping, request.output, shape), CheckOutput(request.output, shape),
        CheckScheduling(request), CheckResume(request), CheckGrammar(request)}) {
    if (!status.ok()) return status;
  }
  return CheckFits(request, shape);
}

}  // namespace naiad
