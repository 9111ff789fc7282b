// Where requests and stop messages wait for the engine thread. The only locked state of the engine.
#pragma once

#include <bitset>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request.h"
#include "engine/status.h"

namespace naiad {

// A request with the number by which the engine knows it. Serials grow with arrival and are never used twice, so a late
// stop message cannot hit a newer request that took over the id.
struct AcceptedRequest {
  uint64_t serial = 0;
  GenerationRequest request;
};

// Ends a request, or one of its sequences.
struct StopMessage {
  uint64_t serial = 0;
  std::optional<int32_t> sequence_index;  // Absent: all.
};

// What came in since the last collection.
struct Mail {
  std::vector<AcceptedRequest> requests;  // In order of arrival.
  std::vector<StopMessage> stops;         // Each at most once. What they would end may have ended already.
  bool closed = false;                    // The engine shuts down; nothing new will come.
};

class Inbox {
 public:
  explicit Inbox(int32_t max_waiting_requests) : max_waiting_requests_(max_waiting_requests) {}

  // Any thread. Refuses a live id (kInvalidArgument), more than max_waiting_requests (kResourceExhausted) and all after
  // Close (kUnavailable); `request` is moved from only on success.
  Status Push(GenerationRequest&& request);
  // Any thread. No effect unless a live request has this id.
  void PushStop(const std::string& request_id, std::optional<int32_t> sequence_index = std::nullopt);
  // Any thread. Wakes the collector.
  void Close();

  // Replaces `mail` by what came in. With `wait`, blocks until there is something or the inbox is closed.
  void Collect(bool wait, Mail* mail);

  // The engine thread reports that accepted requests stopped waiting, because they started or ended.
  void OnLeftWaiting(int32_t count);
  // The engine thread reports that a request has ended: its id may be used again.
  void OnEnded(const std::string& request_id);

  // Requests accepted but not yet started.
  [[nodiscard]] int32_t waiting_requests() const;

 private:
  struct LiveRequest {
    uint64_t serial = 0;
    bool stop_sent = false;
    std::bitset<kMaxSequences> sequence_stops_sent;
    // False if nothing new is asked for.
    bool NoteStop(std::optional<int32_t> sequence_index);
  };

  const int32_t max_waiting_requests_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  // Guarded by mutex_:
  Mail mail_;
  std::unordered_map<std::string, LiveRequest> live_;
  uint64_t next_serial_ = 0;
  int32_t waiting_requests_ = 0;
};

}  // namespace naiad
