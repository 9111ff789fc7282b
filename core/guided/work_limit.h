// A bound on the processor time that the grammar library may use. It is called in the middle of its work
// (xgrammar.cmake).
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>

namespace naiad {

// Thrown by the library's code when the limit of the thread is reached; never leaves core/guided.
class GuideWorkExceeded : public std::runtime_error {
 public:
  GuideWorkExceeded() : std::runtime_error("the guide takes too long") {}
};

// While it lives, library code on this thread throws GuideWorkExceeded once it has used `limit` of processor time: not
// time on the clock, so that a busy machine refuses nothing that an idle one accepts. Does not nest.
class GuideWorkLimit {
 public:
  explicit GuideWorkLimit(std::chrono::microseconds limit);
  ~GuideWorkLimit();
  GuideWorkLimit(const GuideWorkLimit&) = delete;
  GuideWorkLimit& operator=(const GuideWorkLimit&) = delete;

  // Processor time since it began.
  [[nodiscard]] std::chrono::microseconds used() const;

 private:
  const int64_t start_us_;
};

namespace internal {
struct WorkLimitState {
  int64_t deadline_us = INT64_MAX;  // On the clock of the thread's processor time.
  uint32_t count = 0;
};
extern thread_local constinit WorkLimitState work_limit_state;
// Throws GuideWorkExceeded if the deadline is over.
void CheckWorkLimit();
}  // namespace internal

// Called by the library for each small piece of work. Reading the clock is a system call, so only now and then.
inline void CountGuideWork() {
  constexpr uint32_t kCallsPerCheck = 1024;
  if (++internal::work_limit_state.count % kCallsPerCheck == 0) internal::CheckWorkLimit();
}

}  // namespace naiad
