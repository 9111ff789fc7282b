#include "encoder/encoder_engine.h"

#include <algorithm>
#include <new>
#include <string>

#include "encoder/encoder_validation.h"
#include "engine/thread_name.h"

namespace naiad {
namespace {

std::chrono::microseconds Since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
}

FinishedSummary SummaryOf(const EncoderWork& work) {
  FinishedSummary summary;
  summary.prompt_tokens = work.tokens();
  summary.queue = work.queue();
  summary.prefill = work.compute();
  return summary;
}

}  // namespace

EncoderEngine::EncoderEngine(EncoderEngineOptions options, std::unique_ptr<EncoderRunner> runner,
                             EngineObserver& observer)
    : options_(options),
      runner_(std::move(runner)),
      observer_(observer),
      texts_(runner_->shape().uses_token_type_ids) {}

EncoderEngine::~EncoderEngine() { Shutdown(); }

void EncoderEngine::Start() {
  const std::lock_guard lock(thread_mutex_);
  if (!thread_.joinable()) thread_ = std::thread(&EncoderEngine::ThreadMain, this);
}

Status EncoderEngine::Submit(EncoderRequest&& request) {
  Status status = ValidateEncoderRequest(runner_->shape(), request);
  if (status.ok()) {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      status = Status::Unavailable("the engine is shutting down");
    } else if (inbox_.size() >= static_cast<size_t>(options_.max_waiting_requests)) {
      status = Status::ResourceExhausted(std::to_string(inbox_.size()) + " requests are waiting already");
    } else {
      inbox_.push_back(std::move(request));
    }
  }
  if (status.ok()) {
    wake_.notify_one();
  } else {
    observer_.OnRejected(status.code());
  }
  return status;
}

void EncoderEngine::Stop(const std::string& request_id) {
  if (request_id.empty()) return;
  const std::lock_guard lock(mutex_);
  const auto has_id = [&](const EncoderRequest& request) { return request.id == request_id; };
  if (std::ranges::any_of(inbox_, has_id)) stopped_ids_.insert(request_id);
}

void EncoderEngine::ThreadMain() {
  NameThisThread(kEngineThreadName);
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !inbox_.empty() || !works_.empty(); });
      if (stopping_) return;
    }
    Step();
  }
}

bool EncoderEngine::Step() {
  Status status;
  std::chrono::microseconds duration{0};
  try {
    const bool has_ended_some = EndUnwanted();
    const Slices slices = FillRun();
    if (slices.empty()) {
      if (has_ended_some) ReportLoad();
      return has_ended_some;
    }
    status = Run(slices, &duration);
  } catch (const std::bad_alloc&) {
    status = Status::ResourceExhausted("out of memory");
  }
  if (status.ok()) {
    StepStats stats;
    stats.tokens = stats.prompt_tokens = static_cast<int32_t>(texts_.tokens());
    stats.sequences = static_cast<int32_t>(texts_.sequences());
    stats.duration = duration;
    observer_.OnStep(stats);
    FinishCompleted();
  } else {
    FailWorks(std::exchange(works_, {}), status);
  }
  ReportLoad();
  return true;
}

// Requests that were stopped before they began, or are past their deadline. False if there are none.
bool EncoderEngine::EndUnwanted() {
  const Clock::time_point now = Clock::now();
  std::deque<EncoderWork> late;
  std::deque<EncoderWork> stopped;
  if (!works_.empty() && works_.front().IsLate(now)) late.swap(works_);  // The one that the last run left incomplete.
  {
    const std::lock_guard lock(mutex_);
    const auto leaves = [&](EncoderRequest& request) {
      const bool is_stopped = stopped_ids_.contains(request.id);
      const bool is_late = request.deadline && now >= *request.deadline;
      if (is_stopped || is_late) {
        (is_stopped ? stopped : late).emplace_back(std::move(request), runner_->shape(), now);
      }
      return is_stopped || is_late;
    };
    std::erase_if(inbox_, leaves);
    stopped_ids_.clear();
  }
  const bool has_ended_some = !late.empty() || !stopped.empty();
  FailWorks(std::move(late), Status::DeadlineExceeded());
  FailWorks(std::move(stopped), Status(ErrorCode::kCancelled, "the request was stopped"));
  return has_ended_some;
}

// The next run's texts: first those of the request that the last run could not finish, then requests from the inbox.
EncoderEngine::Slices EncoderEngine::FillRun() {
  texts_.Clear();
  Slices slices;
  while (slices.size() < works_.size() || TakeNext()) {
    EncoderWork& work = works_[slices.size()];
    slices.emplace_back(&work, work.AddTo(texts_, static_cast<size_t>(options_.max_batch_tokens)));
    if (!work.all_added()) break;
  }
  return slices;
}

// Moves the next request from the inbox to works_; false if there is none, or if not even its first text has room.
bool EncoderEngine::TakeNext() {
  const std::lock_guard lock(mutex_);
  if (inbox_.empty()) return false;
  const size_t first_length = static_cast<size_t>(inbox_.front().sequence_lengths.front());
  if (texts_.tokens() > 0 && texts_.tokens() + first_length > static_cast<size_t>(options_.max_batch_tokens))
    return false;
  works_.emplace_back(std::move(inbox_.front()), runner_->shape(), Clock::now());
  inbox_.pop_front();
  return true;
}

Status EncoderEngine::Run(const Slices& slices, std::chrono::microseconds* duration) {
  const Clock::time_point start = Clock::now();
  std::span<const float> output;
  if (Status status = runner_->Run(texts_.batch(), &output); !status.ok()) return status;
  *duration = Since(start);
  for (const auto& [work, slice] : slices) work->Collect(texts_, slice, output, *duration);
  return Status::Ok();
}

void EncoderEngine::FinishCompleted() {
  while (!works_.empty() && works_.front().all_added()) {
    EncoderWork& work = works_.front();
    const FinishedSummary summary = SummaryOf(work);
    const Clock::time_point arrival = work.arrival();
    work.Finish();
    works_.pop_front();
    observer_.OnFinished(summary, Since(arrival));
  }
}

void EncoderEngine::FailWorks(std::deque<EncoderWork> works, const Status& status) {
  for (EncoderWork& work : works) {
    FinishedSummary summary = SummaryOf(work);
    summary.reason = FinishReason::kError;
    summary.error = status;
    work.Fail(status);
    observer_.OnFinished(summary, Since(work.arrival()));
  }
}

void EncoderEngine::ReportLoad() {
  EngineLoad load;
  load.running = static_cast<int32_t>(works_.size());
  {
    const std::lock_guard lock(mutex_);
    load.waiting = static_cast<int32_t>(inbox_.size());
  }
  observer_.OnLoad(load);
}

void EncoderEngine::Shutdown() {
  const std::lock_guard thread_lock(thread_mutex_);
  std::deque<EncoderRequest> unstarted;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    unstarted.swap(inbox_);
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  // The engine thread is gone: what it owned is ours now.
  for (EncoderRequest& request : unstarted) works_.emplace_back(std::move(request), runner_->shape(), Clock::now());
  if (works_.empty()) return;
  FailWorks(std::exchange(works_, {}), Status::Unavailable("the engine is shutting down"));
  ReportLoad();
}

}  // namespace naiad
