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

// What a step gave one sequence.
struct SequenceOutcome {
  TokenDelta delta;
  int32_t accepted_drafts = 0;
  std::optional<SequenceEnd> end;  // It ends with this step: by itself, or because no token could be chosen.
};

// Appends to the sequences of `running` the tokens that the step gives them, and sets `outcomes` to one entry for each
// of plan.sequences. `logits` is [plan.logit_rows, vocabulary_size] or longer, and is changed. A draft holds if it is
// the very token that is sampled at its place, so drafts change nothing about what comes out.
void SampleStep(const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> running, std::span<float> logits,
                int32_t vocabulary_size, SamplerScratch* scratch, std::vector<SequenceOutcome>* outcomes);

}  // namespace naiad
