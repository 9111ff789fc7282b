// From logits to what each sequence of a step gets.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/sequence.h"
#include "engine/step_plan.h"
#include "sampling/sampler.h"

namespace naiad {

// What a step gives one sequence, before it is committed.
struct SequenceOutcome {
  TokenDelta delta;
  std::optional<int32_t> token_id;  // The next token, if the step samples one.
  Status status;                    // Not ok: no token could be chosen.
};

// Sets `outcomes` to one entry for each of plan.sequences. `logits` is [plan.logit_rows, vocabulary_size] or longer,
// and is changed. Nothing of `running` is.
void SampleStep(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running, std::span<float> logits,
                int32_t vocabulary_size, SamplerScratch* scratch, std::vector<SequenceOutcome>* outcomes);

}  // namespace naiad
