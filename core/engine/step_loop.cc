#include "engine/step_loop.h"

#include <algorithm>
#include <string>
#include <utility>

namespace naiad {
namespace {

std::chrono::microseconds Between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin);
}

bool HasEnded(const std::unique_ptr<Sequence>& sequence) { return sequence->has_ended(); }

}  // namespace

StepLoop::StepLoop(const EngineOptions& options, ModelRunner& runner, EngineObserver& observer, Inbox& inbox)
    : options_(options), runner_(runner), observer_(observer), inbox_(inbox), pool_(runner.shape().num_blocks) {}

bool StepLoop::Step(Mail mail) {
  bool has_worked = !mail.requests.empty();
  TakeRequests(std::move(mail.requests));
  has_worked |= EndStoppedAndAbandoned(mail.stops);
  AdmitWaiting();
  PlanStep();
  if (!plan_.sequences.empty()) {
    ExecutePlan();
    has_worked = true;
  }
  RemoveEnded();
  if (has_worked) ReportLoad();
  return has_worked;
}

void StepLoop::EndAll(Mail mail, const Status& error) {
  TakeRequests(std::move(mail.requests));
  const Clock::time_point now = Clock::now();
  const SequenceEnd end = SequenceEnd::Error(error);
  for (const auto& sequence : running_) Finish(*sequence, end, {}, now);
  for (const auto& sequence : waiting_) Finish(*sequence, end, {}, now);
  RemoveEnded();
  ReportLoad();
}

void StepLoop::TakeRequests(std::vector<AcceptedRequest> requests) {
  for (AcceptedRequest& accepted : requests) {
    waiting_.push_back(
        std::make_unique<Sequence>(accepted.serial, std::move(accepted.request), options_.eos_token_ids));
  }
}

bool StepLoop::EndStoppedAndAbandoned(const std::vector<uint64_t>& stops) {
  const Clock::time_point now = Clock::now();
  bool has_ended_some = false;
  const auto end_if_unwanted = [&](const std::unique_ptr<Sequence>& sequence) {
    const bool is_stopped = std::ranges::find(stops, sequence->serial()) != stops.end();
    if (!is_stopped && !sequence->sink().IsAbandoned()) return;
    Finish(*sequence, SequenceEnd::Cancelled(), {}, now);
    has_ended_some = true;
  };
  std::ranges::for_each(running_, end_if_unwanted);
  std::ranges::for_each(waiting_, end_if_unwanted);
  if (has_ended_some) RemoveEnded();
  return has_ended_some;
}

// A request starts only when the blocks that it and all running ones can ever need are there, so that no running
// request ever runs out of them.
void StepLoop::AdmitWaiting() {
  if (waiting_.empty()) return;
  const int32_t block_tokens = runner_.shape().block_tokens;
  AdmissionLimits limits;
  limits.free_slots = options_.max_active_requests - static_cast<int32_t>(running_.size());
  limits.unpromised_blocks = pool_.num_blocks();
  for (const auto& sequence : running_) limits.unpromised_blocks -= sequence->promised_blocks(block_tokens);

  blocks_needed_.clear();
  for (const auto& sequence : waiting_) {
    if (std::cmp_greater_equal(blocks_needed_.size(), limits.free_slots)) break;
    blocks_needed_.push_back(sequence->promised_blocks(block_tokens));
  }
  const int32_t count = CountAdmissible(blocks_needed_, limits);
  const Clock::time_point now = Clock::now();
  for (int32_t i = 0; i < count; ++i) {
    waiting_.front()->Start(now, runner_.shape().vocabulary_size);
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  inbox_.OnLeftWaiting(count);
}

void StepLoop::PlanStep() {
  demands_.clear();
  for (const auto& sequence : running_) {
    demands_.push_back({.pending_tokens = sequence->pending_tokens(),
                        .context_rows = sequence->unscored_positions(),
                        .is_decoding = sequence->phase() == SequencePhase::kDecoding,
                        .last_step = sequence->last_step()});
  }
  ShareStep(demands_, {.max_tokens = options_.max_step_tokens, .max_context_rows = options_.max_context_rows},
            &shares_);
  plan_.Clear();
  for (size_t slot = 0; slot < running_.size(); ++slot) {
    if (shares_.tokens[slot] > 0) PlanSequence(slot, shares_.tokens[slot]);
  }
}

void StepLoop::PlanSequence(size_t slot, int32_t token_count) {
  const Sequence& sequence = *running_[slot];
  const int32_t end = sequence.cached_tokens() + token_count;
  PlannedSequence planned;
  planned.slot = slot;
  planned.first_position = sequence.cached_tokens();
  planned.token_count = token_count;
  planned.first_row = plan_.tokens;
  planned.first_logit_row = plan_.logit_rows;
  if (sequence.unscored_positions() > 0) {
    planned.first_context_position = std::max(planned.first_position, sequence.scored_positions());
    const int32_t context_end = std::min(end, sequence.prompt_tokens() - 1);
    planned.context_row_count = std::max(0, context_end - planned.first_context_position);
  }
  planned.samples = end == sequence.total_tokens() && sequence.request().stopping.max_tokens > 0;
  planned.new_blocks = BlocksForPositions(end, runner_.shape().block_tokens) - sequence.block_table().size();
  plan_.tokens += token_count;
  plan_.logit_rows += planned.logit_row_count();
  plan_.sequences.push_back(planned);
}

void StepLoop::ExecutePlan() {
  const Clock::time_point begin = Clock::now();
  std::span<float> logits;
  Status status = ReserveBlocks();
  if (status.ok()) status = RunModel(&logits);
  if (!status.ok()) {
    FailStep(status);
    return;
  }
  SampleStep(plan_, running_, logits, runner_.shape().vocabulary_size, &scratch_, &outcomes_);
  const Clock::time_point end = Clock::now();
  Commit(end);
  StepStats stats;
  stats.tokens = plan_.tokens;
  stats.sequences = static_cast<int32_t>(plan_.sequences.size());
  stats.duration = Between(begin, end);
  observer_.OnStep(stats);
  Deliver(end);
}

Status StepLoop::ReserveBlocks() {
  reservations_.clear();
  for (const PlannedSequence& planned : plan_.sequences) {
    std::optional<BlockReservation> reservation = pool_.Reserve(planned.new_blocks);
    if (!reservation) {
      return Status::Internal("the KV cache has " + std::to_string(pool_.free_count()) + " free blocks; " +
                              std::to_string(planned.new_blocks) + " promised ones are wanted");
    }
    reservations_.push_back(*std::move(reservation));
  }
  return Status::Ok();
}

Status StepLoop::RunModel(std::span<float>* logits) {
  const PackedBatch batch = packed_.Build(plan_, running_, reservations_);
  if (Status status = runner_.Run(batch, logits); !status.ok()) return status;
  const size_t wanted = batch.logit_rows.size() * static_cast<size_t>(runner_.shape().vocabulary_size);
  if (logits->size() == wanted) return Status::Ok();
  return Status::Internal("the model gave " + std::to_string(logits->size()) + " logits; " + std::to_string(wanted) +
                          " were asked for");
}

void StepLoop::FailStep(const Status& error) {
  reservations_.clear();
  const Clock::time_point now = Clock::now();
  for (const PlannedSequence& planned : plan_.sequences) {
    Finish(*running_[planned.slot], SequenceEnd::Error(error), {}, now);
  }
}

void StepLoop::Commit(Clock::time_point now) {
  ++step_number_;
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    const PlannedSequence& planned = plan_.sequences[i];
    Sequence& sequence = *running_[planned.slot];
    sequence.CommitCached(planned.token_count, std::move(reservations_[i]), step_number_);
    sequence.CommitScored(planned.context_row_count);
    if (!outcomes_[i].token_id) continue;
    const std::optional<Clock::time_point> previous = sequence.last_token_time();
    sequence.CommitToken(*outcomes_[i].token_id, now);
    ReportToken(sequence, previous, now);
  }
}

void StepLoop::Deliver(Clock::time_point now) {
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    Sequence& sequence = *running_[plan_.sequences[i].slot];
    SequenceOutcome& outcome = outcomes_[i];
    if (!outcome.status.ok()) {
      Finish(sequence, SequenceEnd::Error(outcome.status), std::move(outcome.delta), now);
    } else if (std::optional<SequenceEnd> end = sequence.NaturalEnd()) {
      Finish(sequence, *std::move(end), std::move(outcome.delta), now);
    } else if (!outcome.delta.token_ids.empty() || !outcome.delta.context_log_probs.chosen.empty()) {
      sequence.sink().OnDelta(std::move(outcome.delta));
    }
  }
}

void StepLoop::ReportToken(const Sequence& sequence, std::optional<Clock::time_point> previous, Clock::time_point now) {
  if (previous) {
    observer_.OnInterToken(Between(*previous, now));
  } else {
    observer_.OnFirstToken(Between(sequence.request().arrival, now));
  }
}

// Blocks and id are free before anybody hears of the end, so that who hears of it can use them.
void StepLoop::Finish(Sequence& sequence, SequenceEnd end, TokenDelta last, Clock::time_point now) {
  if (sequence.phase() == SequencePhase::kWaiting) inbox_.OnLeftWaiting(1);
  sequence.End(std::move(end));
  inbox_.OnEnded(sequence.request().id);
  const FinishedSummary summary = sequence.Summarize(now);
  observer_.OnFinished(summary, Between(sequence.request().arrival, now));
  sequence.sink().OnFinished(std::move(last), summary);
}

void StepLoop::RemoveEnded() {
  std::erase_if(running_, HasEnded);
  std::erase_if(waiting_, HasEnded);
}

void StepLoop::ReportLoad() {
  observer_.OnLoad({.running = static_cast<int32_t>(running_.size()),
                    .waiting = inbox_.waiting_requests(),
                    .blocks_used = pool_.used_count(),
                    .blocks_free = pool_.free_count(),
                    .blocks_cached = 0});
}

CacheSnapshot StepLoop::Snapshot() const {
  CacheSnapshot snapshot;
  snapshot.num_blocks = pool_.num_blocks();
  snapshot.block_tokens = runner_.shape().block_tokens;
  snapshot.free_blocks.assign(pool_.free_blocks().begin(), pool_.free_blocks().end());
  for (const auto& sequence : running_) {
    const auto blocks = sequence->block_table().blocks();
    snapshot.sequences.push_back({sequence->request().id, sequence->cached_tokens(), {blocks.begin(), blocks.end()}});
  }
  return snapshot;
}

}  // namespace naiad
