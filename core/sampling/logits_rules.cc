#include "sampling/logits_rules.h"

#include <limits>

namespace naiad {

void LogitBiasRule::Apply(int32_t /*generated_tokens*/, std::span<float> logits) const {
  for (const LogitBias& entry : biases_) logits[static_cast<size_t>(entry.token_id)] += entry.bias;
}

void RepetitionPenaltyRule::Apply(int32_t /*generated_tokens*/, std::span<float> logits) const {
  for (const int32_t token_id : seen_) {
    float& logit = logits[static_cast<size_t>(token_id)];
    logit = logit > 0.0F ? logit / penalty_ : logit * penalty_;
  }
}

void RepetitionPenaltyRule::OnToken(TokenOrigin /*origin*/, int32_t token_id) {
  if (is_seen_[static_cast<size_t>(token_id)]) return;
  is_seen_[static_cast<size_t>(token_id)] = true;
  seen_.push_back(token_id);
}

void FrequencyPenaltyRule::Apply(int32_t /*generated_tokens*/, std::span<float> logits) const {
  for (const auto& [token_id, count] : counts_) {
    logits[static_cast<size_t>(token_id)] -= presence_penalty_ + frequency_penalty_ * static_cast<float>(count);
  }
}

void FrequencyPenaltyRule::OnToken(TokenOrigin origin, int32_t token_id) {
  if (origin == TokenOrigin::kGenerated) ++counts_[token_id];
}

void MinTokensRule::Apply(int32_t generated_tokens, std::span<float> logits) const {
  if (generated_tokens >= min_tokens_) return;
  for (const int32_t token_id : stop_token_ids_) {
    logits[static_cast<size_t>(token_id)] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace naiad
