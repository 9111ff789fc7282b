// A model between ModelInitialize and ModelFinalize: its checked configuration, and how to make what serves it.
#pragma once

#include <memory>

#include "config/model_config.h"
#include "triton/backend_state.h"
#include "triton/model_instance.h"

namespace naiad {

class ModelState {
 public:
  static Status Create(TRITONBACKEND_Model* model, std::unique_ptr<ModelState>* state);

  // Loads the graph and starts the engine.
  Status CreateInstance(TRITONBACKEND_ModelInstance* handle, std::unique_ptr<ModelInstance>* instance) const;

  [[nodiscard]] const ModelConfig& config() const { return config_; }

 private:
  explicit ModelState(BackendState& backend) : backend_(backend) {}
  Status CreateDecoder(TRITONBACKEND_ModelInstance* handle, std::unique_ptr<ModelMetrics> metrics,
                       std::unique_ptr<ModelInstance>* instance) const;
  Status CreateEncoder(TRITONBACKEND_ModelInstance* handle, std::unique_ptr<ModelMetrics> metrics,
                       std::unique_ptr<ModelInstance>* instance) const;

  BackendState& backend_;  // Triton keeps the backend longer than its models.
  ModelConfig config_;
};

}  // namespace naiad
