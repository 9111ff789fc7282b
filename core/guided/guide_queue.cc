#include "guided/guide_queue.h"

#include <algorithm>
#include <utility>

namespace naiad {

GuideQueue::GuideQueue(GuideQueueTargets targets, int32_t max_waiting_requests)
    : targets_(std::move(targets)),
      max_waiting_requests_(static_cast<size_t>(max_waiting_requests)),
      thread_([this] { Run(); }) {}

GuideQueue::~GuideQueue() {
  std::deque<Waiting> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(waiting_);
  }
  changed_.notify_one();
  for (Waiting& waiting : left) targets_.refuse(std::move(waiting.request), Status::Unavailable("shutting down"));
  thread_.join();
}

bool GuideQueue::IsWaiting(const std::string& request_id) const {
  return (current_ && current_->id == request_id) ||
         std::any_of(waiting_.begin(), waiting_.end(),
                     [&](const Waiting& waiting) { return waiting.request.id == request_id; });
}

Status GuideQueue::Push(GuideSpec guide, GenerationRequest&& request) {
  std::shared_ptr<const Grammar> grammar = targets_.find(guide);
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return Status::Unavailable("shutting down");
    if (IsWaiting(request.id)) {
      return Status::InvalidArgument("id: a live request already has the id '" + request.id + "'");
    }
    if (grammar != nullptr) {
      request.grammar = std::move(grammar);
      return targets_.submit(std::move(request));
    }
    if (waiting_.size() >= max_waiting_requests_) {
      return Status::ResourceExhausted(std::to_string(max_waiting_requests_) +
                                       " requests wait for their guide already");
    }
    waiting_.push_back({std::move(guide), std::move(request)});
  }
  changed_.notify_one();
  return Status::Ok();
}

void GuideQueue::Stop(const std::string& request_id, const std::function<void()>& otherwise) {
  std::optional<GenerationRequest> stopped;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const Waiting& waiting) { return waiting.request.id == request_id; });
    if (found != waiting_.end()) {
      stopped = std::move(found->request);
      waiting_.erase(found);
    } else if (current_ && current_->id == request_id) {
      stopped = std::move(current_);
      current_.reset();
    } else {
      otherwise();
    }
  }
  if (stopped) targets_.cancel(std::move(*stopped));
}

void GuideQueue::Run() {
  while (true) {
    GuideSpec guide;
    bool abandoned = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      guide = std::move(waiting_.front().guide);
      current_ = std::move(waiting_.front().request);
      waiting_.pop_front();
      abandoned = current_->sink->IsAbandoned();
    }
    std::shared_ptr<const Grammar> grammar;
    const Status compiled = abandoned ? Status(ErrorCode::kCancelled, "") : targets_.compile(guide, &grammar);
    Finish(compiled, std::move(grammar));
  }
}

void GuideQueue::Finish(const Status& compiled, std::shared_ptr<const Grammar> grammar) {
  Status status = compiled;
  std::optional<GenerationRequest> refused;
  {
    const std::lock_guard lock(mutex_);
    if (!current_) return;  // Stopped and answered.
    current_->grammar = std::move(grammar);
    if (status.ok()) status = targets_.submit(std::move(*current_));
    if (!status.ok()) refused = std::move(current_);
    current_.reset();
  }
  if (!refused) return;
  if (status.code() == ErrorCode::kCancelled) {
    targets_.cancel(std::move(*refused));
  } else {
    targets_.refuse(std::move(*refused), status);
  }
}

}  // namespace naiad
