#include "guided/work_limit.h"

#include <ctime>

namespace naiad {
namespace {

int64_t ThreadTimeUs() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000 + time.tv_nsec / 1'000;
}

}  // namespace

namespace internal {

thread_local constinit WorkLimitState work_limit_state;

void CheckWorkLimit() {
  if (work_limit_state.deadline_us == INT64_MAX) return;
  if (ThreadTimeUs() >= work_limit_state.deadline_us) throw GuideWorkExceeded();
}

}  // namespace internal

GuideWorkLimit::GuideWorkLimit(std::chrono::microseconds limit) : start_us_(ThreadTimeUs()) {
  internal::work_limit_state.deadline_us = start_us_ + limit.count();
}

GuideWorkLimit::~GuideWorkLimit() { internal::work_limit_state.deadline_us = INT64_MAX; }

std::chrono::microseconds GuideWorkLimit::used() const { return std::chrono::microseconds(ThreadTimeUs() - start_us_); }

}  // namespace naiad
