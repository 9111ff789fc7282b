#include "engine/engine.h"

#include <utility>

#include "engine/request_validation.h"
#include "engine/step_loop.h"
#include "engine/thread_name.h"

namespace naiad {

Engine::Engine(EngineOptions options, std::unique_ptr<ModelRunner> runner, EngineObserver& observer)
    : options_(std::move(options)),
      runner_(std::move(runner)),
      options_status_(ValidateEngineOptions(options_, runner_->shape())),
      observer_(observer),
      inbox_(options_.max_waiting_requests),
      loop_(std::make_unique<StepLoop>(options_, *runner_, observer_, inbox_)) {}

Engine::~Engine() { Shutdown(); }

void Engine::Start() {
  thread_ = std::thread([this] {
    NameThisThread(kEngineThreadName);
    RunThread();
  });
}

Status Engine::Submit(GenerationRequest&& request) {
  Status status = options_status_;
  if (status.ok()) status = ValidateRequest(request, runner_->shape());
  if (status.ok() && request.num_sequences > options_.max_active_requests) {
    status = Status::InvalidArgument("num_sequences is " + std::to_string(request.num_sequences) + ", but only " +
                                     std::to_string(options_.max_active_requests) +
                                     " sequences can run at once (max_active_requests)");
  }
  if (status.ok()) status = inbox_.Push(std::move(request));
  if (!status.ok()) observer_.OnRejected(status.code());
  return status;
}

void Engine::Stop(const std::string& request_id, std::optional<int32_t> sequence_index) {
  inbox_.PushStop(request_id, sequence_index);
}

bool Engine::Step() {
  Mail mail;
  inbox_.Collect(/*wait=*/false, &mail);
  return loop_->Step(std::move(mail));
}

void Engine::RunThread() {
  while (true) {
    Mail mail;
    inbox_.Collect(/*wait=*/loop_->is_idle(), &mail);
    if (mail.closed) {
      loop_->EndAll(std::move(mail), Status::Unavailable("the engine is shutting down"));
      return;
    }
    loop_->Step(std::move(mail));
  }
}

void Engine::Shutdown() {
  std::call_once(shutdown_once_, [this] {
    inbox_.Close();
    if (thread_.joinable()) {
      thread_.join();
    } else {
      RunThread();
    }
  });
}

CacheSnapshot Engine::SnapshotCache() const { return loop_->Snapshot(); }

}  // namespace naiad
