#include "engine/inbox.h"

#include <utility>

namespace naiad {

Status Inbox::Push(GenerationRequest&& request) {
  {
    const std::lock_guard lock(mutex_);
    if (mail_.closed) return Status::Unavailable("the engine is shutting down");
    if (live_.contains(request.id)) {
      return Status::InvalidArgument("id: a live request already has the id '" + request.id + "'");
    }
    if (waiting_requests_ >= max_waiting_requests_) {
      return Status::ResourceExhausted(std::to_string(waiting_requests_) +
                                       " requests are waiting, which is the limit (max_waiting_requests)");
    }
    const uint64_t serial = next_serial_++;
    live_[request.id].serial = serial;
    mail_.requests.push_back({serial, std::move(request)});
    ++waiting_requests_;
  }
  arrived_.notify_one();
  return Status::Ok();
}

void Inbox::PushStop(const std::string& request_id, std::optional<int32_t> sequence_index) {
  {
    const std::lock_guard lock(mutex_);
    const auto live = live_.find(request_id);
    if (live == live_.end() || !live->second.NoteStop(sequence_index)) return;
    mail_.stops.push_back({live->second.serial, sequence_index});
  }
  arrived_.notify_one();
}

// One message of each kind is enough, and keeps the list bounded.
bool Inbox::LiveRequest::NoteStop(std::optional<int32_t> sequence_index) {
  if (!sequence_index) return !std::exchange(stop_sent, true);
  if (*sequence_index < 0 || *sequence_index >= kMaxSequences) return false;
  const auto index = static_cast<size_t>(*sequence_index);
  if (sequence_stops_sent[index]) return false;
  sequence_stops_sent.set(index);
  return true;
}

void Inbox::Close() {
  {
    const std::lock_guard lock(mutex_);
    mail_.closed = true;
  }
  arrived_.notify_one();
}

void Inbox::Collect(bool wait, Mail* mail) {
  mail->requests.clear();
  mail->stops.clear();
  std::unique_lock lock(mutex_);
  if (wait) {
    arrived_.wait(lock, [this] { return mail_.closed || !mail_.requests.empty() || !mail_.stops.empty(); });
  }
  mail->requests.swap(mail_.requests);
  mail->stops.swap(mail_.stops);
  mail->closed = mail_.closed;
}

void Inbox::OnLeftWaiting(int32_t count) {
  if (count == 0) return;
  const std::lock_guard lock(mutex_);
  waiting_requests_ -= count;
}

void Inbox::OnEnded(const std::string& request_id) {
  const std::lock_guard lock(mutex_);
  live_.erase(request_id);
}

int32_t Inbox::waiting_requests() const {
  const std::lock_guard lock(mutex_);
  return waiting_requests_;
}

}  // namespace naiad
