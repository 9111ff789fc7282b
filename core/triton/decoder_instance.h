// Serves task "generate": requests of Triton's in, decoupled token streams out.
#pragma once

#include <functional>
#include <memory>

#include "engine/engine.h"
#include "engine/model_runner.h"
#include "guided/guide.h"
#include "triton/instance_observer.h"
#include "triton/model_instance.h"

namespace naiad {

// Turns a guide into what the engine follows; kInvalidArgument if the guide is wrong. Any thread.
using CompileGuide = std::function<Status(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar)>;

class DecoderInstance : public ModelInstance {
 public:
  // Without `compile_guide`, requests with a guide are refused.
  DecoderInstance(TRITONBACKEND_ModelInstance* handle, const EngineOptions& options,
                  std::unique_ptr<ModelRunner> runner, std::unique_ptr<ModelMetrics> metrics,
                  CompileGuide compile_guide = nullptr);
  void Execute(TRITONBACKEND_Request* request) override;

 private:
  [[nodiscard]] Status Compile(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar) const;

  TRITONBACKEND_ModelInstance* handle_;
  const CompileGuide compile_guide_;
  InstanceObserver observer_;
  Engine engine_;  // Last: it stops before what it reports to is gone.
};

}  // namespace naiad
