// Where a decoder's KV blocks are: the seam between the runner and host or device memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/model_runner.h"
#include "engine/status.h"
#include "ort/kv_pool.h"
#include "ort/ort_api.h"
#include "ort/ort_runtime.h"

namespace naiad {

class KvMemory {
 public:
  virtual ~KvMemory() = default;

  [[nodiscard]] virtual int32_t num_blocks() const = 0;

  // A layer's tensor, of KvElementType and KvTensorDims, over memory that lives as long as this object.
  [[nodiscard]] virtual Ort::Value keys(int32_t layer) = 0;
  [[nodiscard]] virtual Ort::Value values(int32_t layer) = 0;

  // As ModelRunner::CopyBlocks.
  virtual Status CopyBlocks(std::span<const BlockCopy> copies) = 0;
};

// How a graph declares a layer's keys, or values. Half precision comes with the layout of ONNX Runtime's
// PagedAttention, positions before heads; the others with ours.
[[nodiscard]] ONNXTensorElementDataType KvElementType(KvCacheType type);
[[nodiscard]] std::vector<int64_t> KvTensorDims(const KvPoolShape& shape, int64_t num_blocks);

// As many blocks as fit into `bytes`, all zero: host memory, or that of the GPU on which `session` runs; the memory
// must not outlive the session. kInvalidArgument if not one block fits, kResourceExhausted if memory ran out.
Status CreateKvMemory(const OrtRuntime& runtime, const Ort::Session& session, std::optional<int32_t> cuda_gpu,
                      const KvPoolShape& shape, int64_t bytes, std::unique_ptr<KvMemory>* memory);

}  // namespace naiad
