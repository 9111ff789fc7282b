// The logits rules. MakeLogitsRules (sampler.h) puts together those that a request needs, in order.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "sampling/logits_rule.h"

namespace naiad {

// Adds a constant to the logits of chosen tokens; entries for one token add up.
class LogitBiasRule final : public LogitsRule {
 public:
  explicit LogitBiasRule(std::vector<LogitBias> biases) : biases_(std::move(biases)) {}
  void Apply(int32_t generated_tokens, std::span<float> logits) const override;

 private:
  std::vector<LogitBias> biases_;
};

// Divides positive and multiplies negative logits of every token seen in prompt or output (Keskar et al., "CTRL",
// 2019).
class RepetitionPenaltyRule final : public LogitsRule {
 public:
  RepetitionPenaltyRule(float penalty, int32_t vocabulary_size)
      : penalty_(penalty), is_seen_(static_cast<size_t>(vocabulary_size)) {}
  void Apply(int32_t generated_tokens, std::span<float> logits) const override;
  void OnToken(TokenOrigin origin, int32_t token_id) override;

 private:
  const float penalty_;
  std::vector<bool> is_seen_;
  std::vector<int32_t> seen_;  // Each id once.
};

// Lowers the logit of each generated token by presence + count * frequency; the prompt does not count.
class FrequencyPenaltyRule final : public LogitsRule {
 public:
  FrequencyPenaltyRule(float presence_penalty, float frequency_penalty)
      : presence_penalty_(presence_penalty), frequency_penalty_(frequency_penalty) {}
  void Apply(int32_t generated_tokens, std::span<float> logits) const override;
  void OnToken(TokenOrigin origin, int32_t token_id) override;

 private:
  const float presence_penalty_;
  const float frequency_penalty_;
  std::unordered_map<int32_t, int32_t> counts_;
};

// Forbids the stop tokens until the request has min_tokens new tokens.
class MinTokensRule final : public LogitsRule {
 public:
  MinTokensRule(int32_t min_tokens, std::vector<int32_t> stop_token_ids)
      : min_tokens_(min_tokens), stop_token_ids_(std::move(stop_token_ids)) {}
  void Apply(int32_t generated_tokens, std::span<float> logits) const override;

 private:
  const int32_t min_tokens_;
  const std::vector<int32_t> stop_token_ids_;
};

}  // namespace naiad
