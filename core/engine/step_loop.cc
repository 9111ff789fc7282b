#include "engine/step_loop.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <utility>

namespace naiad {
namespace {

std::chrono::microseconds Between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin);
}

bool HasEnded(const std::unique_ptr<Sequence>& sequence) { return sequence == nullptr || sequence->has_ended(); }

// Places among the running sequences that it takes, now or once it has forked.
int32_t SlotsOf(const Sequence& sequence) { return 1 + sequence.unforked(); }

int32_t BlocksOfAllTokens(const Sequence& sequence, int32_t block_tokens) {
  return BlocksForPositions(sequence.total_tokens(), block_tokens);
}

}  // namespace

StepLoop::StepLoop(const EngineOptions& options, ModelRunner& runner, EngineObserver& observer, Inbox& inbox)
    : options_(options),
      runner_(runner),
      observer_(observer),
      inbox_(inbox),
      pool_(runner.shape().num_blocks, runner.shape().block_tokens),
      planner_(options_, pool_, costs_) {}

// Memory that runs out inside a run, or while its results are worked up, costs the sequences of that step; elsewhere it
// could have left a list half done, so that all requests end. Either way the engine goes on.
bool StepLoop::Step(Mail mail) {
  const Clock::time_point begin = options_.now();
  work_ = {};
  bool has_worked = true;
  try {
    has_worked = TryStep(std::move(mail));
  } catch (const std::bad_alloc&) {
    EndAll({}, Status::ResourceExhausted("out of memory"));
  }
  if (has_worked) {
    work_.total = Between(begin, options_.now());
    observer_.OnWork(work_);
  }
  return has_worked;
}

bool StepLoop::TryStep(Mail mail) {
  bool has_worked = !mail.requests.empty();
  TakeRequests(std::move(mail.requests));
  has_worked |= EndUnwanted(mail.stops);
  AdmitWaiting();
  ForkReady();
  PlanStep();
  if (!plan_.sequences.empty()) {
    try {
      ExecutePlan();
    } catch (const std::bad_alloc&) {
      FailStep(Status::ResourceExhausted("out of memory"));
    }
    has_worked = true;
  }
  RemoveEnded();
  if (has_worked) ReportLoad();
  return has_worked;
}

void StepLoop::EndAll(Mail mail, const Status& error) {
  TakeRequests(std::move(mail.requests));
  const Clock::time_point now = options_.now();
  const SequenceEnd end = SequenceEnd::Error(error);
  const auto finish = [&](const std::unique_ptr<Sequence>& sequence) {
    if (sequence != nullptr && !sequence->has_ended()) Finish(*sequence, end, {}, now);
  };
  std::ranges::for_each(running_, finish);
  std::ranges::for_each(waiting_, finish);
  std::ranges::for_each(moved_, finish);
  moved_.clear();
  RemoveEnded();
  ReportLoad();
}

void StepLoop::TakeRequests(std::vector<AcceptedRequest> requests) {
  const SequenceSettings settings{.eos_token_ids = options_.eos_token_ids,
                                  .vocabulary_size = runner_.shape().vocabulary_size,
                                  .max_draft_tokens = options_.max_draft_tokens};
  for (AcceptedRequest& accepted : requests) {
    auto group = std::make_shared<RequestGroup>();
    group->serial = accepted.serial;
    group->request = std::move(accepted.request);
    group->request.use_prefix_cache &= options_.prefix_cache;
    group->unfinished_sequences = group->request.num_sequences;
    InsertByRank(std::make_unique<Sequence>(std::move(group), settings), &waiting_);
  }
}

bool StepLoop::EndUnwanted(const std::vector<StopMessage>& stops) {
  const Clock::time_point now = options_.now();
  bool has_ended_some = false;
  const auto is_stopped = [&](const Sequence& sequence) {
    return std::ranges::any_of(stops, [&](const StopMessage& stop) {
      if (stop.serial != sequence.group().serial) return false;
      return !stop.sequence_index || (*stop.sequence_index == sequence.index() && sequence.unforked() == 0);
    });
  };
  const auto end_if_unwanted = [&](const std::unique_ptr<Sequence>& sequence) {
    const std::optional<Clock::time_point>& deadline = sequence->request().deadline;
    if (is_stopped(*sequence) || sequence->sink().IsAbandoned()) {
      Finish(*sequence, SequenceEnd::Cancelled(), {}, now);
    } else if (deadline && now >= *deadline) {
      Finish(*sequence, SequenceEnd::Error(Status::DeadlineExceeded()), {}, now);
    } else {
      return;
    }
    has_ended_some = true;
  };
  std::ranges::for_each(running_, end_if_unwanted);
  std::ranges::for_each(waiting_, end_if_unwanted);
  if (has_ended_some) RemoveEnded();
  return has_ended_some;
}

// Strictly in order of rank: a small request never overtakes a large one, which would let the large one starve.
void StepLoop::AdmitWaiting() {
  while (!waiting_.empty()) {
    if (CanStart(*waiting_.front())) {
      std::unique_ptr<Sequence> next = std::move(waiting_.front());
      waiting_.pop_front();
      Start(std::move(next));
    } else if (MayPushOut(*waiting_.front())) {
      PushOutLast();
    } else {
      return;
    }
  }
}

// Blocks are promised to nobody: a sequence starts when the tokens it has fit beside those that the running ones still
// have to compute, with a block for each of those to grow into. If they all grow far, some will be preempted.
bool StepLoop::FitsBeside(const Sequence& sequence, int32_t lowest_priority) const {
  const int32_t block_tokens = pool_.block_tokens();
  int32_t slots = SlotsOf(sequence);
  int32_t blocks = BlocksOfAllTokens(sequence, block_tokens) - sequence.FindCachedPrefix(pool_).held_by_others;
  int32_t available = pool_.available_count();
  for (const auto& other : running_) {
    if (other->request().priority < lowest_priority) {
      available += other->block_table().size();
      continue;
    }
    slots += SlotsOf(*other);
    blocks += 1 + std::max(0, BlocksOfAllTokens(*other, block_tokens) - other->block_table().size());
  }
  return slots <= options_.max_active_requests && blocks <= available;
}

bool StepLoop::CanStart(const Sequence& sequence) const {
  return running_.empty() || FitsBeside(sequence, std::numeric_limits<int32_t>::min());
}

// Whether preempting everything of a lower priority would let it start; only then is it worth it.
bool StepLoop::MayPushOut(const Sequence& sequence) const {
  const int32_t priority = sequence.request().priority;
  return running_.back()->request().priority < priority && FitsBeside(sequence, priority);
}

void StepLoop::Start(std::unique_ptr<Sequence> sequence) {
  if (!sequence->has_ever_started()) inbox_.OnLeftWaiting(1);
  sequence->Start(options_.now());
  InsertByRank(std::move(sequence), &running_);
}

void StepLoop::PushOutLast() {
  if (running_.back()->cached_tokens() > 0) observer_.OnPreemption();
  running_.back()->Preempt();
  InsertByRank(std::move(running_.back()), &waiting_);
  running_.pop_back();
}

void StepLoop::ForkReady() {
  moved_.clear();
  for (const auto& sequence : running_) {
    while (sequence->IsReadyToFork()) moved_.push_back(sequence->Fork(&pool_));
  }
  for (auto& sequence : moved_) InsertByRank(std::move(sequence), &running_);
  moved_.clear();
}

void StepLoop::PlanStep() {
  planner_.Plan(&running_, &plan_, &moved_);
  for (auto& sequence : moved_) {
    observer_.OnPreemption();
    InsertByRank(std::move(sequence), &waiting_);
  }
  moved_.clear();
}

void StepLoop::ExecutePlan() {
  const Clock::time_point begin = options_.now();
  std::span<float> logits;
  Status status = ReserveBlocks();
  if (status.ok()) status = CopySharedBlocks();
  if (status.ok()) status = RunModel(&logits);
  if (!status.ok()) {
    FailStep(status);
    return;
  }
  const Clock::time_point sampling_begin = options_.now();
  SampleStep(plan_, running_, logits, runner_.shape().vocabulary_size, &scratch_, &outcomes_);
  const Clock::time_point end = options_.now();
  work_.sampling = Between(sampling_begin, end);
  StepStats stats;
  stats.tokens = plan_.tokens;
  stats.sequences = static_cast<int32_t>(plan_.sequences.size());
  stats.duration = Between(begin, end);
  Commit(end, &stats);
  costs_.Observe({.decoding = plan_.decoding, .extra_tokens = plan_.tokens - plan_.decoding}, stats.duration);
  observer_.OnStep(stats);
  Deliver(end);
}

Status StepLoop::ReserveBlocks() {
  reservations_.clear();
  for (const PlannedSequence& planned : plan_.sequences) {
    const int32_t wanted = planned.new_blocks + (planned.copies_block ? 1 : 0);
    std::optional<BlockReservation> reservation = pool_.Reserve(wanted);
    if (!reservation) {
      return Status::Internal("the KV cache has " + std::to_string(pool_.available_count()) + " blocks to give; " +
                              std::to_string(wanted) + " planned ones are wanted");
    }
    reservations_.push_back(*std::move(reservation));
  }
  return Status::Ok();
}

// The last holder of a shared block may write to the block itself.
Status StepLoop::CopySharedBlocks() {
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    if (!plan_.sequences[i].copies_block) continue;
    Sequence& sequence = *running_[plan_.sequences[i].slot];
    BlockReservation copy = reservations_[i].TakeFront(1);
    if (!sequence.MustCopyBlock(pool_)) continue;
    const BlockCopy step{.source = sequence.block_table().blocks().back(), .target = copy.blocks().front()};
    if (Status status = runner_.CopyBlocks({&step, 1}); !status.ok()) return status;
    sequence.ReplaceSharedBlock(std::move(copy));
  }
  return Status::Ok();
}

Status StepLoop::RunModel(std::span<float>* logits) {
  const PackedBatch batch = packed_.Build(plan_, running_, reservations_);
  const Clock::time_point begin = options_.now();
  const Status status = runner_.Run(batch, logits);
  work_.model = Between(begin, options_.now());
  if (!status.ok()) return status;
  const size_t wanted = batch.logit_rows.size() * static_cast<size_t>(runner_.shape().vocabulary_size);
  if (logits->size() == wanted) return Status::Ok();
  return Status::Internal("the model gave " + std::to_string(logits->size()) + " logits; " + std::to_string(wanted) +
                          " were asked for");
}

void StepLoop::FailStep(const Status& error) {
  reservations_.clear();
  const Clock::time_point now = options_.now();
  for (const PlannedSequence& planned : plan_.sequences) {
    Sequence& sequence = *running_[planned.slot];
    if (!sequence.has_ended()) Finish(sequence, SequenceEnd::Error(error), {}, now);
  }
}

// Drafts that did not hold leave keys and values behind the cached positions; the next tokens there overwrite them.
void StepLoop::Commit(Clock::time_point now, StepStats* stats) {
  ++step_number_;
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    const PlannedSequence& planned = plan_.sequences[i];
    const SequenceOutcome& outcome = outcomes_[i];
    Sequence& sequence = *running_[planned.slot];
    const int32_t count = planned.token_count - planned.draft_count + outcome.accepted_drafts;
    const int32_t blocks = BlocksForPositions(sequence.cached_tokens() + count, pool_.block_tokens());
    const int32_t missing_blocks = blocks - sequence.block_table().size();
    sequence.CommitCached(count, reservations_[i].TakeFront(static_cast<size_t>(missing_blocks)), &pool_);
    sequence.CommitScored(planned.context_row_count);
    sequence.NoteStep(step_number_);
    if (planned.draft_count > 0) sequence.prompt_lookup()->OnResult(planned.draft_count, outcome.accepted_drafts);
    ReportTokens(sequence, outcome.delta.token_ids.size(), now);
    stats->new_tokens += static_cast<int32_t>(outcome.delta.token_ids.size());
    const NewPromptTokens prompt = sequence.TakeNewPromptTokens();
    stats->prompt_tokens += prompt.all;
    stats->cached_prompt_tokens += prompt.cached;
    stats->draft_tokens += planned.draft_count;
    stats->accepted_draft_tokens += outcome.accepted_drafts;
  }
  reservations_.clear();
}

void StepLoop::Deliver(Clock::time_point now) {
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    Sequence& sequence = *running_[plan_.sequences[i].slot];
    SequenceOutcome& outcome = outcomes_[i];
    if (!outcome.end) outcome.end = sequence.NaturalEnd();
    if (outcome.end) {
      Finish(sequence, *std::move(outcome.end), std::move(outcome.delta), now);
    } else if (!outcome.delta.token_ids.empty() || !outcome.delta.context_log_probs.chosen.empty()) {
      sequence.sink().OnDelta(std::move(outcome.delta));
    }
  }
  for (const PlannedSequence& planned : plan_.sequences) {
    Sequence& sequence = *running_[planned.slot];
    if (!sequence.has_ended()) sequence.sink().OnStepEnd();
  }
}

// Tokens that come together share the time since the last ones.
void StepLoop::ReportTokens(Sequence& sequence, size_t count, Clock::time_point now) {
  if (count == 0) return;
  if (const std::optional<Clock::time_point> previous = sequence.last_token_time()) {
    const std::chrono::microseconds gap = Between(*previous, now) / static_cast<int64_t>(count);
    for (size_t i = 0; i < count; ++i) observer_.OnInterToken(gap);
  } else {
    observer_.OnFirstToken(Between(sequence.request().arrival, now));
  }
  sequence.NoteTokenTime(now);
}

// Blocks and id are free, and the load is reported, before anybody hears of the end, so that who hears of it can use
// and see them. A sequence that stands for others ends them too.
void StepLoop::Finish(Sequence& sequence, SequenceEnd end, TokenDelta last, Clock::time_point now) {
  if (!sequence.has_ever_started()) inbox_.OnLeftWaiting(1);
  const int32_t unforked = sequence.unforked();
  sequence.End(std::move(end));
  FinishedSummary summary = sequence.Summarize(now);
  last.sequence_index = summary.sequence_index;
  RequestGroup& group = sequence.group();
  for (int32_t i = 0; i <= unforked; ++i) {
    summary.is_last = --group.unfinished_sequences == 0;
    if (summary.is_last) {
      inbox_.OnEnded(group.request.id);
      ReportLoad();
    }
    observer_.OnFinished(summary, Between(group.request.arrival, now));
    group.request.sink->OnFinished(std::exchange(last, {}), summary);
    summary.sequence_index = group.request.num_sequences - unforked + i;
    last.sequence_index = summary.sequence_index;
  }
}

void StepLoop::RemoveEnded() {
  std::erase_if(running_, HasEnded);
  std::erase_if(waiting_, HasEnded);
}

void StepLoop::ReportLoad() {
  const auto is_live = [](const std::unique_ptr<Sequence>& sequence) { return !HasEnded(sequence); };
  const auto preempted = std::ranges::count_if(waiting_, [&](const std::unique_ptr<Sequence>& sequence) {
    return is_live(sequence) && sequence->has_ever_started();
  });
  observer_.OnLoad({.running = static_cast<int32_t>(std::ranges::count_if(running_, is_live)),
                    .waiting = inbox_.waiting_requests() + static_cast<int32_t>(preempted),
                    .blocks_used = pool_.used_count(),
                    .blocks_free = pool_.free_count(),
                    .blocks_cached = pool_.cached_count()});
}

CacheSnapshot StepLoop::Snapshot() const {
  CacheSnapshot snapshot;
  snapshot.num_blocks = pool_.num_blocks();
  snapshot.block_tokens = pool_.block_tokens();
  snapshot.free_blocks.assign(pool_.free_blocks().begin(), pool_.free_blocks().end());
  snapshot.cached_blocks = pool_.cached_blocks();
  for (int32_t block = 0; block < pool_.num_blocks(); ++block) {
    snapshot.holders.push_back(pool_.holders(block));
    if (pool_.index().Contains(block)) snapshot.remembered.push_back({block, pool_.index().previous(block)});
  }
  for (const auto& sequence : running_) {
    const auto blocks = sequence->block_table().blocks();
    snapshot.sequences.push_back({sequence->request().id, sequence->cached_tokens(), {blocks.begin(), blocks.end()}});
  }
  return snapshot;
}

}  // namespace naiad
