#include "sampling/sampler.h"

#include <cmath>
#include <string>
#include <utility>

#include "sampling/argmax.h"
#include "sampling/counter_random.h"
#include "sampling/logits_rules.h"

namespace naiad {

std::vector<std::unique_ptr<LogitsRule>> MakeLogitsRules(const SamplingOptions& sampling, int32_t min_tokens,
                                                         std::span<const int32_t> stop_token_ids,
                                                         int32_t vocabulary_size) {
  std::vector<std::unique_ptr<LogitsRule>> rules;
  if (!sampling.logit_bias.empty()) rules.push_back(std::make_unique<LogitBiasRule>(sampling.logit_bias));
  if (sampling.repetition_penalty != 1.0F) {
    rules.push_back(std::make_unique<RepetitionPenaltyRule>(sampling.repetition_penalty, vocabulary_size));
  }
  if (sampling.presence_penalty != 0.0F || sampling.frequency_penalty != 0.0F) {
    rules.push_back(std::make_unique<FrequencyPenaltyRule>(sampling.presence_penalty, sampling.frequency_penalty));
  }
  if (min_tokens > 0 && !stop_token_ids.empty()) {
    rules.push_back(std::make_unique<MinTokensRule>(
        min_tokens, std::vector<int32_t>(stop_token_ids.begin(), stop_token_ids.end())));
  }
  return rules;
}

std::vector<std::unique_ptr<CandidateFilter>> MakeCandidateFilters(const SamplingOptions& sampling) {
  std::vector<std::unique_ptr<CandidateFilter>> filters;
  if (sampling.temperature == 0.0F) return filters;
  if (sampling.temperature != 1.0F) filters.push_back(std::make_unique<TemperatureFilter>(sampling.temperature));
  if (sampling.top_p < 1.0F) filters.push_back(std::make_unique<TopPFilter>(sampling.top_p));
  if (sampling.min_p > 0.0F) filters.push_back(std::make_unique<MinPFilter>(sampling.min_p));
  return filters;
}

Sampler::Sampler(const SamplingOptions& sampling, int32_t min_tokens, std::span<const int32_t> stop_token_ids,
                 int32_t vocabulary_size, std::unique_ptr<LogitsRule> grammar_rule)
    : is_greedy_(sampling.temperature == 0.0F),
      top_k_(sampling.top_k),
      seed_(sampling.seed),
      rules_(MakeLogitsRules(sampling, min_tokens, stop_token_ids, vocabulary_size)),
      filters_(MakeCandidateFilters(sampling)) {
  if (grammar_rule != nullptr) rules_.push_back(std::move(grammar_rule));
}

void Sampler::OnToken(TokenOrigin origin, int32_t token_id) {
  for (const auto& rule : rules_) rule->OnToken(origin, token_id);
  if (origin == TokenOrigin::kGenerated) ++generated_tokens_;
}

std::optional<int32_t> Sampler::Sample(std::span<float> logits, SamplerScratch* scratch) const {
  for (const auto& rule : rules_) rule->Apply(generated_tokens_, logits);
  if (is_greedy_) {
    const std::optional<int32_t> best = ArgMax(logits);
    if (!best || !std::isfinite(logits[static_cast<size_t>(*best)])) return std::nullopt;
    return best;
  }
  if (!std::isfinite(MaxValue(logits))) return std::nullopt;
  if (top_k_ > 0) {
    CollectTopCandidates(logits, top_k_, &scratch->candidates);
  } else {
    CollectCandidates(logits, &scratch->candidates);
  }
  for (const auto& filter : filters_) filter->Apply(&scratch->candidates);
  return DrawCandidate(scratch->candidates, UniformAt(seed_, static_cast<uint64_t>(generated_tokens_)));
}

Status Sampler::WhyNoToken() const {
  for (const auto& rule : rules_) {
    if (Status status = rule->status(); !status.ok()) return status;
  }
  return Status::Internal("no token has a finite logit after " + std::to_string(generated_tokens_) + " new tokens");
}

}  // namespace naiad
