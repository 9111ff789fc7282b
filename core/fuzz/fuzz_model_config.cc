// The texts that a model is loaded from: Triton's model configuration and the manifest, or the backend's own options.
// Triton parses config.pbtxt by itself; what a backend gets, and what is read here, is its JSON form.
//
// Input: one byte that chooses what is read, then the configuration, a zero byte, and the manifest.
#include <algorithm>
#include <cstdint>
#include <string>

#include "config/backend_config.h"
#include "config/model_config.h"
#include "fuzz_check.h"

namespace naiad {
namespace {

void CheckLoaded(const ModelConfig& config) {
  NAIAD_FUZZ_CHECK(config.context_length_tokens >= 1);
  NAIAD_FUZZ_CHECK(config.vocabulary_size >= 1);
  NAIAD_FUZZ_CHECK(config.gpu >= 0);
  NAIAD_FUZZ_CHECK(config.limits.max_waiting_requests >= 1);
  NAIAD_FUZZ_CHECK(config.graph_size_bytes >= 1);
  NAIAD_FUZZ_CHECK(!config.graph_path.empty() && config.graph_path.front() != '/');
  NAIAD_FUZZ_CHECK(("/" + config.graph_path + "/").find("/../") == std::string::npos);
  for (const int32_t id : config.eos_token_ids) NAIAD_FUZZ_CHECK(id >= 0 && id < config.vocabulary_size);
  if (config.task == Task::kGenerate) {
    NAIAD_FUZZ_CHECK(config.decoder.head_size >= 1 && config.decoder.kv_block_tokens >= 1);
    NAIAD_FUZZ_CHECK(config.limits.kv_cache_bytes >= 1);
  } else {
    NAIAD_FUZZ_CHECK(config.encoder.hidden_size >= 1);
  }
}

}  // namespace
}  // namespace naiad

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace naiad;
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const int kind = data[0] % 3;
  Status status;
  if (kind == 2) {
    BackendConfig config;
    status = ParseBackendConfig(text, &config);
    if (status.ok()) NAIAD_FUZZ_CHECK(!config.onnxruntime_library.empty());
  } else {
    const size_t end = std::min(text.find('\0'), text.size());
    const std::string manifest = end < text.size() ? text.substr(end + 1) : std::string();
    ModelConfig config;
    status = ParseModelConfig({kind == 0 ? "chat" : "sentiment", 1}, text.substr(0, end), manifest, &config);
    if (status.ok()) CheckLoaded(config);
  }
  if (!status.ok()) {
    NAIAD_FUZZ_CHECK(status.code() == ErrorCode::kInvalidArgument);
    NAIAD_FUZZ_CHECK(!status.message().empty() && status.message().size() < 4096);
  }
  return 0;
}
