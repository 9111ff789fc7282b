// Where requests wait for their guide to be compiled, beside the engine, so that a slow guide delays no other request.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/request.h"
#include "engine/status.h"
#include "guided/guide.h"

namespace naiad {

// What happens with a request that leaves the queue. Called by the queue's thread, or by whoever calls the queue.
struct GuideQueueTargets {
  // The grammar if it is at hand, else null; its request does not wait then. Quick.
  std::function<std::shared_ptr<const Grammar>(const GuideSpec& guide)> find;
  std::function<Status(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar)> compile;
  // Takes the request with its grammar; called under the queue's lock, so that a stop message is never lost between
  // queue and engine. Moves from it only on success.
  std::function<Status(GenerationRequest&& request)> submit;
  std::function<void(GenerationRequest&& request, const Status& status)> refuse;
  std::function<void(GenerationRequest&& request)> cancel;
};

class GuideQueue {
 public:
  // Most requests that wait is `max_waiting_requests`.
  GuideQueue(GuideQueueTargets targets, int32_t max_waiting_requests);
  // Refuses those that wait with kUnavailable and waits for the guide in work.
  ~GuideQueue();
  GuideQueue(const GuideQueue&) = delete;
  GuideQueue& operator=(const GuideQueue&) = delete;

  // Any thread. The request is moved from only on success.
  //   kResourceExhausted  too many wait already
  //   kInvalidArgument    one that waits has the same id
  //   any                 `submit` refused a request whose grammar was at hand; it has it then
  Status Push(GuideSpec guide, GenerationRequest&& request);

  // Cancels the request of this id, or does nothing if none waits; then `otherwise` is called, under the queue's lock:
  // the request is with the engine by then, or nowhere. Any thread.
  void Stop(const std::string& request_id, const std::function<void()>& otherwise);

 private:
  struct Waiting {
    GuideSpec guide;
    GenerationRequest request;
  };

  void Run();
  void Finish(const Status& compiled, std::shared_ptr<const Grammar> grammar);
  [[nodiscard]] bool IsWaiting(const std::string& request_id) const;

  const GuideQueueTargets targets_;
  const size_t max_waiting_requests_;
  std::mutex mutex_;  // Of what follows.
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  std::optional<GenerationRequest> current_;  // Its guide is in work; empty if it was stopped meanwhile.
  bool closed_ = false;
  std::thread thread_;  // Last: it starts when all else is there.
};

}  // namespace naiad
