#include "engine/step_planner.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace naiad {
namespace {

// Bounds the logits of a step: a row of them is a value for each token of the vocabulary.
constexpr int32_t kMaxDraftRows = 64;

// After so many steps, one decodes alone, from which the cost model learns. Drafts gain by every step that they are in,
// and need the costs less exactly.
constexpr int32_t kMostStepsBesidePrompts = 16;
constexpr int32_t kMostStepsWithDrafts = 32;

}  // namespace

void StepPlanner::Plan(SequenceList* running, StepPlan* plan, SequenceList* pushed_out) {
  pushed_out->clear();
  for (const auto& sequence : *running) sequence->AdoptCachedBlocks(&pool_);
  Share(*running);
  ProposeDrafts(*running);
  MakeRoom(running, pushed_out);
  plan->Clear();
  for (size_t slot = 0; slot < running->size(); ++slot) {
    if (shares_.tokens[slot] > 0) PlanSequence(*(*running)[slot], slot, plan);
  }
}

void StepPlanner::Share(const SequenceList& running) {
  demands_.clear();
  int32_t decoding = 0;
  for (const auto& sequence : running) {
    const bool is_decoding = sequence->phase() == SequencePhase::kDecoding;
    if (is_decoding) ++decoding;
    // The last token of a prompt waits for the fork: each of the request's sequences computes it for itself.
    const int32_t held_back = sequence->unforked() > 0 ? 1 : 0;
    demands_.push_back({.pending_tokens = sequence->pending_tokens() - held_back,
                        .context_rows = sequence->unscored_positions(),
                        .is_decoding = is_decoding,
                        .priority = sequence->request().priority,
                        .last_step = sequence->last_step()});
  }
  StepLimits limits{.max_tokens = options_.max_step_tokens, .max_context_rows = options_.max_context_rows};
  if (decoding > 0) {
    // When many prompts wait for few streams, they get their share of the time all the same: as if each sequence had an
    // equal one.
    const auto prefilling = static_cast<float>(demands_.size()) - static_cast<float>(decoding);
    const float stretch = std::max(options_.max_step_stretch, 1.0F + prefilling / static_cast<float>(decoding));
    const bool decodes_alone = costs_.steps_since_decoding_alone() >= kMostStepsBesidePrompts;
    limits.max_prefill_tokens = decodes_alone ? 0 : costs_.ExtraTokensWithin(stretch, decoding);
  }
  ShareStep(demands_, limits, &shares_);
}

// Prompts go first: drafts fill only steps without any.
void StepPlanner::ProposeDrafts(const SequenceList& running) {
  drafts_.resize(std::max(drafts_.size(), running.size()));
  for (auto& draft : drafts_) draft.clear();
  int32_t decoding = 0;
  for (size_t slot = 0; slot < running.size(); ++slot) {
    if (shares_.tokens[slot] == 0) continue;
    if (!demands_[slot].is_decoding) return;
    ++decoding;
  }
  if (decoding == 0 || costs_.steps_since_decoding_alone() >= kMostStepsWithDrafts) return;
  const double token_cost = costs_.RelativeTokenCost(decoding);
  int32_t left = std::min(options_.max_step_tokens - decoding, kMaxDraftRows);
  for (size_t slot = 0; slot < running.size(); ++slot) {
    const Sequence& sequence = *running[slot];
    PromptLookup* const lookup = sequence.prompt_lookup();
    if (shares_.tokens[slot] == 0 || lookup == nullptr) continue;
    const int32_t room = sequence.request().stopping.max_tokens - sequence.generated_tokens() - 1;
    lookup->Propose(sequence.tokens(), std::min(left, room), token_cost, &drafts_[slot]);
    left -= DraftCount(slot);
  }
}

int32_t StepPlanner::NewBlocks(const Sequence& sequence, size_t slot) const {
  const int32_t end = sequence.cached_tokens() + shares_.tokens[slot] + DraftCount(slot);
  return BlocksForPositions(end, pool_.block_tokens()) - sequence.block_table().size();
}

int32_t StepPlanner::WantedBlocks(const SequenceList& running) const {
  int32_t wanted = 0;
  for (size_t slot = 0; slot < running.size(); ++slot) {
    if (shares_.tokens[slot] == 0) continue;
    wanted += NewBlocks(*running[slot], slot) + (running[slot]->MustCopyBlock(pool_) ? 1 : 0);
  }
  return wanted;
}

// A lone sequence always finds room: a request that cannot fit was refused.
void StepPlanner::MakeRoom(SequenceList* running, SequenceList* pushed_out) {
  if (WantedBlocks(*running) <= pool_.available_count()) return;
  for (auto& draft : drafts_) draft.clear();
  while (running->size() > 1 && WantedBlocks(*running) > pool_.available_count()) {
    running->back()->Preempt();
    pushed_out->push_back(std::move(running->back()));
    running->pop_back();
  }
}

void StepPlanner::PlanSequence(const Sequence& sequence, size_t slot, StepPlan* plan) const {
  const int32_t own_tokens = shares_.tokens[slot];
  const int32_t end = sequence.cached_tokens() + own_tokens;
  PlannedSequence planned;
  planned.slot = slot;
  planned.first_position = sequence.cached_tokens();
  planned.token_count = own_tokens + DraftCount(slot);
  planned.draft_count = DraftCount(slot);
  planned.first_draft = plan->draft_tokens.size();
  planned.first_row = plan->tokens;
  planned.first_logit_row = plan->logit_rows;
  if (sequence.unscored_positions() > 0) {
    planned.first_context_position = std::max(planned.first_position, sequence.scored_positions());
    const int32_t context_end = std::min(end, sequence.prompt_tokens() - 1);
    planned.context_row_count = std::max(0, context_end - planned.first_context_position);
  }
  planned.samples = end == sequence.total_tokens() && sequence.request().stopping.max_tokens > 0;
  planned.new_blocks = NewBlocks(sequence, slot);
  planned.copies_block = sequence.MustCopyBlock(pool_);
  plan->draft_tokens.insert(plan->draft_tokens.end(), drafts_[slot].begin(), drafts_[slot].end());
  plan->tokens += planned.token_count;
  plan->logit_rows += planned.logit_row_count();
  if (demands_[slot].is_decoding) ++plan->decoding;
  plan->sequences.push_back(planned);
}

}  // namespace naiad
