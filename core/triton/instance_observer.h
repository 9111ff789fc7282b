// What an engine reports, turned into metrics of ours and execution counts of Triton's.
#pragma once

#include <memory>
#include <utility>

#include "triton/metrics.h"

namespace naiad {

class InstanceObserver : public EngineObserver {
 public:
  InstanceObserver(TRITONBACKEND_ModelInstance* instance, std::unique_ptr<ModelMetrics> metrics)
      : instance_(instance), metrics_(std::move(metrics)) {}

  // Each step is one execution of the model in nv_inference_exec_count.
  void OnStep(const StepStats& stats) override;
  void OnLoad(const EngineLoad& load) override { metrics_->OnLoad(load); }
  void OnInterToken(std::chrono::microseconds gap) override { metrics_->OnInterToken(gap); }
  void OnFirstToken(std::chrono::microseconds time) override { metrics_->OnFirstToken(time); }
  void OnFinished(const FinishedSummary& summary, std::chrono::microseconds total) override {
    metrics_->OnFinished(summary, total);
  }
  void OnWork(const EngineWork& work) override { metrics_->OnWork(work); }
  void OnPreemption() override { metrics_->OnPreemption(); }
  void OnRejected(ErrorCode code) override { metrics_->OnRejected(code); }

 private:
  TRITONBACKEND_ModelInstance* instance_;
  std::unique_ptr<ModelMetrics> metrics_;
};

}  // namespace naiad
