#include "config/model_config.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "config/field_reader.h"
#include "config/manifest.h"
#include "config/triton_config.h"

namespace naiad {

Status ParseModelConfig(const ModelIdentity& identity, const std::string& triton_config, const std::string& manifest,
                        ModelConfig* config) {
  nlohmann::json triton_json;
  nlohmann::json manifest_json;
  if (Status status = ParseJsonObject(triton_config, "config.pbtxt", &triton_json); !status.ok()) return status;
  if (Status status = ParseJsonObject(manifest, kManifestFile, &manifest_json); !status.ok()) return status;
  ModelConfig parsed;
  if (Status status = ReadManifest(identity, manifest_json, &parsed); !status.ok()) return status;
  if (Status status = ReadTritonConfig(triton_json, &parsed); !status.ok()) return status;
  *config = std::move(parsed);
  return Status::Ok();
}

Status LoadModelConfig(const ModelIdentity& identity, const std::string& triton_config, const std::string& folder,
                       ModelConfig* config) {
  const std::filesystem::path root(folder);
  const std::filesystem::path manifest_path = root / kManifestFile;
  std::ifstream stream(manifest_path, std::ios::binary);
  if (!stream) return Status::InvalidArgument("cannot read " + manifest_path.string());
  const std::string manifest((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (Status status = ParseModelConfig(identity, triton_config, manifest, config); !status.ok()) return status;

  const std::filesystem::path graph = root / config->graph_path;
  std::error_code error;
  const auto size_bytes = std::filesystem::file_size(graph, error);
  if (error) return Status::InvalidArgument("cannot read " + graph.string() + ": " + error.message());
  if (size_bytes != static_cast<uintmax_t>(config->graph_size_bytes)) {
    return Status::InvalidArgument(graph.string() + " has " + std::to_string(size_bytes) + " bytes, but " +
                                   kManifestFile + " says " + std::to_string(config->graph_size_bytes));
  }
  config->graph_path = graph.string();
  if (!config->tokenizer_path.empty()) config->tokenizer_path = (root / config->tokenizer_path).string();
  return Status::Ok();
}

}  // namespace naiad
