// What all models of this backend share. Lives from Initialize to Finalize.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "config/backend_config.h"
#include "triton/metrics.h"

namespace naiad {

class OrtRuntime;

class BackendState {
 public:
  // Checks Triton's interface version, reads the backend's settings, registers the metric families.
  static Status Create(TRITONBACKEND_Backend* backend, std::unique_ptr<BackendState>* state);

  [[nodiscard]] const MetricFamilies& metric_families() const { return *families_; }

  // ONNX Runtime, loaded by the first model that asks. Any thread.
  Status GetOrtRuntime(std::shared_ptr<OrtRuntime>* runtime);

 private:
  BackendState() = default;

  BackendConfig config_;
  std::unique_ptr<MetricFamilies> families_;
  std::mutex runtime_mutex_;
  std::shared_ptr<OrtRuntime> runtime_;  // Guarded by runtime_mutex_.
};

}  // namespace naiad
