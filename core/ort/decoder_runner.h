// Runs a decoder graph on ONNX Runtime, with the KV block pool in its hands.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cache/kv_cache_type.h"
#include "engine/model_runner.h"
#include "engine/status.h"
#include "ort/ort_runtime.h"

namespace naiad {

// What the manifest says about a graph. All numbers at least 1.
struct DecoderGraph {
  std::string graph_path;
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_size = 0;
  int32_t kv_block_tokens = 0;
  int32_t vocabulary_size = 0;
  int32_t context_length_tokens = 0;
  KvCacheType kv_cache_type = KvCacheType::kFloat;
};

struct DecoderSessionOptions {
  int64_t kv_cache_bytes = 0;    // The pool takes as many whole blocks as fit, over all layers, keys and values.
  int32_t max_step_tokens = 0;   // Most packed tokens in one run.
  int32_t intra_op_threads = 0;  // 0 = one for each core that this process may use.
  // The GPU to run on; none = the CPU. The graph has to be made for it.
  std::optional<int32_t> cuda_gpu = std::nullopt;
};

// Loads the graph and reserves the pool. kInvalidArgument if the graph is not what `graph` says, or not one block fits;
// kResourceExhausted if memory ran out; kInternal if ONNX Runtime refuses the file.
Status CreateDecoderRunner(std::shared_ptr<OrtRuntime> runtime, const DecoderGraph& graph,
                           const DecoderSessionOptions& options, std::unique_ptr<ModelRunner>* runner);

}  // namespace naiad
