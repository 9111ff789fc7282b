// Chooses the next token of one request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "sampling/candidate_filters.h"
#include "sampling/logits_rule.h"

namespace naiad {

// The rules that `sampling` and `min_tokens` ask for, those without effect left out, in the order in which they apply:
//   1. logit bias  2. repetition penalty  3. presence and frequency penalty  4. minimum tokens (forbids the stop
//   tokens)  5. the request's grammar, which the Sampler adds
// Minimum tokens is last, so that nothing lifts a forbidden token again.
[[nodiscard]] std::vector<std::unique_ptr<LogitsRule>> MakeLogitsRules(const SamplingOptions& sampling,
                                                                       int32_t min_tokens,
                                                                       std::span<const int32_t> stop_token_ids,
                                                                       int32_t vocabulary_size);

// The filters that `sampling` asks for, in the order in which they apply: 1. temperature  2. top-p  3. min-p. Top-k is
// applied before them, when the candidates are collected: dividing by a temperature keeps the order of tokens, so it
// may come first and spare the others most of the work. None when the temperature is 0: the choice is greedy then.
[[nodiscard]] std::vector<std::unique_ptr<CandidateFilter>> MakeCandidateFilters(const SamplingOptions& sampling);

// Working memory that requests share; the engine thread owns it.
struct SamplerScratch {
  std::vector<Candidate> candidates;
  std::vector<float> model_logits;  // A row as the model gave it.
};

// What is chosen depends on the logits, the request's options and its own tokens only. Engine thread only.
class Sampler {
 public:
  // `stop_token_ids` are all tokens that would end the request. `grammar_rule`, if not null, applies after all others,
  // so that nothing lets a token in that it forbids. Options must have been validated.
  Sampler(const SamplingOptions& sampling, int32_t min_tokens, std::span<const int32_t> stop_token_ids,
          int32_t vocabulary_size, std::unique_ptr<LogitsRule> grammar_rule = nullptr);

  // Told of every token of the request in order.
  void OnToken(TokenOrigin origin, int32_t token_id);

  // Chooses the token that follows those seen so far; `logits` is its row and is changed. Does not count as seen until
  // OnToken. Nothing if no token has a finite logit; WhyNoToken() then says why.
  [[nodiscard]] std::optional<int32_t> Sample(std::span<float> logits, SamplerScratch* scratch) const;
  // The first rule that gave up, in its words; kInternal if none did, because then the model's logits are at fault.
  [[nodiscard]] Status WhyNoToken() const;

 private:
  const bool is_greedy_;
  const int32_t top_k_;
  const uint64_t seed_;
  std::vector<std::unique_ptr<LogitsRule>> rules_;
  const std::vector<std::unique_ptr<CandidateFilter>> filters_;
  int32_t generated_tokens_ = 0;
};

}  // namespace naiad
