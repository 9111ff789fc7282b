// Serves task "generate": requests of Triton's in, decoupled token streams out.
#pragma once

#include <memory>

#include "engine/engine.h"
#include "engine/model_runner.h"
#include "triton/instance_observer.h"
#include "triton/model_instance.h"

namespace naiad {

class DecoderInstance : public ModelInstance {
 public:
  DecoderInstance(TRITONBACKEND_ModelInstance* handle, const EngineOptions& options,
                  std::unique_ptr<ModelRunner> runner, std::unique_ptr<ModelMetrics> metrics);
  void Execute(TRITONBACKEND_Request* request) override;

 private:
  TRITONBACKEND_ModelInstance* handle_;
  InstanceObserver observer_;
  Engine engine_;  // Last: it stops before what it reports to is gone.
};

}  // namespace naiad
