// Limits of one decoder engine.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/model_runner.h"
#include "engine/request.h"
#include "engine/status.h"

namespace naiad {

constexpr float kMinStepStretch = 1.1F;

struct EngineOptions {
  int32_t max_step_tokens = 512;       // Most packed tokens in one step, at least 2: one to decode, one to prefill.
  int32_t max_active_requests = 64;    // Most requests in flight, at least 1.
  int32_t max_waiting_requests = 256;  // Most requests accepted but not yet started, at least 1; more are refused.
  int32_t max_context_rows = 64;       // Most rows of context log-probabilities in one step, at least 1; bounds the
                                       // logits to [max_active_requests + max_context_rows, vocabulary].
  int32_t max_draft_tokens = 8;        // Most tokens that a step guesses ahead for one sequence; 0 = no speculation.
  float max_step_stretch = 1.8F;       // How much longer a prompt may make a step than decoding alone; at least 1.1.
  bool prefix_cache = true;            // Whether blocks of ended requests are kept for later ones.
  std::vector<int32_t> eos_token_ids = {};               // Stop tokens of the model itself, each in the vocabulary.
  std::function<Clock::time_point()> now = &Clock::now;  // Tests put their own in.
};

// kInvalidArgument naming the first option, or fact of the model, with which no engine can work.
Status ValidateEngineOptions(const EngineOptions& options, const DecoderShape& shape);

}  // namespace naiad
