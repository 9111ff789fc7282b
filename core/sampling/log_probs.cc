#include "sampling/log_probs.h"

#include <cmath>
#include <cstddef>

#include "sampling/argmax.h"

namespace naiad {

double LogSumExp(std::span<const float> logits) {
  const float max = MaxValue(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - max));
  return static_cast<double>(max) + std::log(sum);
}

void AppendLogProbs(std::span<const float> logits, int32_t token_id, int32_t top_count, std::vector<Candidate>* scratch,
                    LogProbs* log_probs) {
  const double normalizer = LogSumExp(logits);
  const auto log_prob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - normalizer); };
  log_probs->chosen.push_back(log_prob(logits[static_cast<size_t>(token_id)]));
  log_probs->top_count = top_count;
  if (top_count == 0) return;
  CollectTopCandidates(logits, top_count, scratch);
  for (const Candidate& candidate : *scratch) {
    log_probs->top_ids.push_back(candidate.token_id);
    log_probs->top_values.push_back(log_prob(candidate.logit));
  }
}

}  // namespace naiad
