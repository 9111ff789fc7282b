#include "engine/engine_options.h"

#include <string>

namespace naiad {

Status ValidateEngineOptions(const EngineOptions& options, const DecoderShape& shape) {
  const auto too_small = [](const char* name, int32_t value, int32_t min) {
    return Status::InvalidArgument(std::string(name) + " is " + std::to_string(value) + "; it must be at least " +
                                   std::to_string(min));
  };
  if (shape.vocabulary_size < 1) return too_small("vocabulary_size", shape.vocabulary_size, 1);
  if (shape.context_length_tokens < 1) return too_small("context_length_tokens", shape.context_length_tokens, 1);
  if (shape.num_blocks < 1) return too_small("num_blocks", shape.num_blocks, 1);
  if (shape.block_tokens < 1) return too_small("block_tokens", shape.block_tokens, 1);
  if (options.max_step_tokens < 2) return too_small("max_step_tokens", options.max_step_tokens, 2);
  if (options.max_active_requests < 1) return too_small("max_active_requests", options.max_active_requests, 1);
  if (options.max_waiting_requests < 1) return too_small("max_waiting_requests", options.max_waiting_requests, 1);
  if (options.max_context_rows < 1) return too_small("max_context_rows", options.max_context_rows, 1);
  if (options.max_draft_tokens < 0) return too_small("max_draft_tokens", options.max_draft_tokens, 0);
  if (!(options.max_step_stretch >= kMinStepStretch)) {
    return Status::InvalidArgument("max_step_stretch is " + std::to_string(options.max_step_stretch) +
                                   "; it must be at least " + std::to_string(kMinStepStretch));
  }
  for (const int32_t token_id : options.eos_token_ids) {
    if (token_id < 0 || token_id >= shape.vocabulary_size) {
      return Status::InvalidArgument("eos_token_ids holds " + std::to_string(token_id) + "; token ids are 0 to " +
                                     std::to_string(shape.vocabulary_size - 1));
    }
  }
  return Status::Ok();
}

}  // namespace naiad
