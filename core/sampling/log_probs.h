// Log-probabilities of tokens under the model.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"
#include "sampling/candidate_filters.h"

namespace naiad {

// log(sum(exp(logits))) in a way that does not overflow; the sum is kept in double.
[[nodiscard]] double LogSumExp(std::span<const float> logits);

// Adds one position to `log_probs`: log-softmax of `logits` at `token_id`, and at the `top_count` most likely tokens,
// most likely first, the lower id on ties. `top_count` is at most the vocabulary size and the same in every call for
// one `log_probs`. `scratch` is working memory.
void AppendLogProbs(std::span<const float> logits, int32_t token_id, int32_t top_count, std::vector<Candidate>* scratch,
                    LogProbs* log_probs);

}  // namespace naiad
