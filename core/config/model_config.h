// Everything that is configured about one model: Triton's model configuration (config.pbtxt) and the entry's manifest
// (naiad.json), checked in one place. The formats are section 1 of docs/contracts.md. A model whose configuration
// breaks a rule does not load, and the status says which key, which value and what would be allowed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cache/kv_cache_type.h"
#include "engine/status.h"

namespace naiad {

enum class Task { kGenerate, kEmbed, kClassify, kClassifyTokens };

// What the graph was made for.
enum class Device { kCpu, kCuda };

// The word for a task in the manifest: "generate", "embed", "classify" or "classify_tokens".
[[nodiscard]] std::string_view TaskName(Task task);

// Set for Task::kGenerate.
struct DecoderConfig {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_size = 0;
  int32_t kv_block_tokens = 0;
  KvCacheType kv_cache_type = KvCacheType::kFloat;
};

// Set for every task but Task::kGenerate.
struct EncoderConfig {
  int32_t hidden_size = 0;
  std::string pooling = "mean";  // "mean", "cls" or "max": what a request gets that does not say.
  bool uses_token_type_ids = false;
};

// Bounds of one model's engine, from the parameters in config.pbtxt.
struct EngineLimits {
  int64_t kv_cache_bytes = 536'870'912;  // generate: memory of the KV block pool.
  int32_t max_step_tokens = 512;         // generate: most packed tokens in one step.
  int32_t max_active_requests = 64;      // generate: most requests in flight.
  int32_t max_waiting_requests = 256;    // Most requests in the inbox; more is refused.
  int32_t max_draft_tokens = 8;          // generate: most tokens guessed ahead for one sequence; 0 = no speculation.
  float max_step_stretch = 1.8F;         // generate: how much longer prompts may make a step than decoding alone.
  bool prefix_cache = true;              // generate: whether blocks of ended requests are kept for later ones.
  int32_t max_batch_tokens = 512;        // Encoders: most packed tokens in one run.
  int32_t intra_op_threads = 0;          // ONNX Runtime's threads; 0 = one a core.
};

struct ModelConfig {
  std::string name;
  int64_t version = 0;
  Task task = Task::kGenerate;
  Device device = Device::kCpu;
  int32_t gpu = 0;  // Device::kCuda: which GPU, from the instance group in config.pbtxt.
  int32_t context_length_tokens = 0;
  int32_t vocabulary_size = 0;
  std::vector<int32_t> eos_token_ids;
  DecoderConfig decoder;
  EncoderConfig encoder;
  int32_t num_labels = 0;        // classify, classify_tokens: floats in one row of logits.
  std::string graph_path;        // ParseModelConfig: relative to the entry; LoadModelConfig: absolute.
  std::string tokenizer_path;    // Likewise; empty if the entry has no tokenizer.
  int64_t graph_size_bytes = 0;  // Of the graph's file, without data outside it.
  EngineLimits limits;
};

// Which model is being loaded.
struct ModelIdentity {
  std::string name;
  int64_t version = 0;
};

// Parses and checks both texts; reads no file. `triton_config` is version 1 of Triton's JSON form of config.pbtxt.
Status ParseModelConfig(const ModelIdentity& identity, const std::string& triton_config, const std::string& manifest,
                        ModelConfig* config);

// ParseModelConfig with the manifest in `folder`; checks that the graph's files are there and of the right size.
Status LoadModelConfig(const ModelIdentity& identity, const std::string& triton_config, const std::string& folder,
                       ModelConfig* config);

}  // namespace naiad
