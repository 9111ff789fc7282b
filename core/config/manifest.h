// Reading of the manifest naiad.json, format version 1.
#pragma once

#include <nlohmann/json.hpp>

#include "config/model_config.h"

namespace naiad {

inline constexpr char kManifestFile[] = "naiad.json";

// Fills everything but `gpu` and `limits`.
Status ReadManifest(const ModelIdentity& identity, const nlohmann::json& manifest, ModelConfig* config);

}  // namespace naiad
