// The memory of a decoder's paged KV cache: for each layer one tensor of keys and one of values.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "engine/status.h"

namespace naiad {

struct KvPoolShape {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_size = 0;
  int32_t block_tokens = 0;
};

class KvPool {
 public:
  // As many blocks as fit into `bytes`. The pages are taken from the system when they are first written to.
  static Status Create(const KvPoolShape& shape, int64_t bytes, std::unique_ptr<KvPool>* pool);

  [[nodiscard]] int32_t num_blocks() const { return num_blocks_; }
  // [num_blocks, num_kv_heads, block_tokens, head_size]
  [[nodiscard]] std::span<float> keys(int32_t layer) { return Tensor(2 * int64_t{layer}); }
  [[nodiscard]] std::span<float> values(int32_t layer) { return Tensor(2 * int64_t{layer} + 1); }
  // All layers' keys and values of block `source` onto block `target`.
  void CopyBlock(int32_t source, int32_t target);

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };

  KvPool(int32_t num_blocks, int64_t tensors, int64_t tensor_floats, std::unique_ptr<float, Free> memory)
      : num_blocks_(num_blocks), tensors_(tensors), tensor_floats_(tensor_floats), memory_(std::move(memory)) {}
  [[nodiscard]] std::span<float> Tensor(int64_t index) {
    return {memory_.get() + index * tensor_floats_, static_cast<size_t>(tensor_floats_)};
  }

  const int32_t num_blocks_;
  const int64_t tensors_;
  const int64_t tensor_floats_;
  const std::unique_ptr<float, Free> memory_;
};

}  // namespace naiad
