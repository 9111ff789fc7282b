#include "triton/instance_observer.h"

#include "triton/status_codes.h"

namespace naiad {

void InstanceObserver::OnStep(const StepStats& stats) {
  metrics_->OnStep(stats);
  const auto now = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
  const uint64_t start = now - static_cast<uint64_t>(std::chrono::nanoseconds(stats.duration).count());
  LogIfFailed(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance_, static_cast<uint64_t>(stats.sequences), start,
                                                               start, now, now),
              "reporting a step");
}

}  // namespace naiad
