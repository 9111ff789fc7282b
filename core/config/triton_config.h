// Reading of Triton's model configuration: what must hold for this backend, and its parameters.
#pragma once

#include <nlohmann/json.hpp>

#include "config/model_config.h"

namespace naiad {

// `config` must hold what the manifest says; fills `gpu` and `limits`.
Status ReadTritonConfig(const nlohmann::json& triton_config, ModelConfig* config);

}  // namespace naiad
