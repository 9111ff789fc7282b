// Serves tasks "embed", "classify" and "classify_tokens": one response a request.
#pragma once

#include <memory>

#include "encoder/encoder_engine.h"
#include "encoder/encoder_runner.h"
#include "triton/encoder_codec.h"
#include "triton/instance_observer.h"
#include "triton/model_instance.h"

namespace naiad {

class EncoderInstance : public ModelInstance {
 public:
  EncoderInstance(TRITONBACKEND_ModelInstance* handle, EncoderContract contract, const EncoderEngineOptions& options,
                  std::unique_ptr<EncoderRunner> runner, std::unique_ptr<ModelMetrics> metrics);
  void Execute(TRITONBACKEND_Request* request) override;

 private:
  TRITONBACKEND_ModelInstance* handle_;
  EncoderContract contract_;
  InstanceObserver observer_;
  EncoderEngine engine_;  // Last: it stops before what it reports to is gone.
};

}  // namespace naiad
