#include "config/backend_config.h"

#include <nlohmann/json.hpp>

#include "config/field_reader.h"

namespace naiad {

Status ParseBackendConfig(const std::string& json, BackendConfig* config) {
  const std::string document = "--backend-config=naiad";
  nlohmann::json value;
  if (Status status = ParseJsonObject(json, document, &value); !status.ok()) return status;
  Status status;
  FieldReader root(value, document, "", &status);
  // Triton puts its own settings for backends beside ours. A misspelled key of ours shows as one that is missing.
  FieldReader command_line = root.Object("cmdline");
  BackendConfig parsed{.onnxruntime_library = command_line.String("onnxruntime_library")};
  if (status.ok()) *config = std::move(parsed);
  return status;
}

}  // namespace naiad
