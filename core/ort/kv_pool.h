// The memory of a decoder's paged KV cache: for each layer one tensor of keys and one of values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "cache/kv_cache_type.h"
#include "engine/status.h"

namespace naiad {

struct KvPoolShape {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_size = 0;
  int32_t block_tokens = 0;
  KvCacheType cache_type = KvCacheType::kFloat;
};

// Keys and values of one block, over all layers.
[[nodiscard]] constexpr int64_t KvBlockBytes(const KvPoolShape& shape) {
  return 2 * int64_t{shape.num_layers} * shape.num_kv_heads * shape.block_tokens *
         KvRowBytes(shape.cache_type, shape.head_size);
}

class KvPool {
 public:
  // As many blocks as fit into `bytes`. The pages are taken from the system when they are first written to.
  static Status Create(const KvPoolShape& shape, int64_t bytes, std::unique_ptr<KvPool>* pool);

  [[nodiscard]] int32_t num_blocks() const { return num_blocks_; }
  // The bytes of a tensor [num_blocks, num_kv_heads, block_tokens, row], where a row has KvRowBytes. Floats may lie
  // there.
  [[nodiscard]] std::span<std::byte> keys(int32_t layer) { return Tensor(2 * int64_t{layer}); }
  [[nodiscard]] std::span<std::byte> values(int32_t layer) { return Tensor(2 * int64_t{layer} + 1); }
  // All layers' keys and values of block `source` onto block `target`.
  void CopyBlock(int32_t source, int32_t target);

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  KvPool(int32_t num_blocks, int64_t tensors, int64_t tensor_bytes, std::unique_ptr<std::byte, Free> memory)
      : num_blocks_(num_blocks), tensors_(tensors), tensor_bytes_(tensor_bytes), memory_(std::move(memory)) {}
  [[nodiscard]] std::span<std::byte> Tensor(int64_t index) {
    return {memory_.get() + index * tensor_bytes_, static_cast<size_t>(tensor_bytes_)};
  }

  const int32_t num_blocks_;
  const int64_t tensors_;
  const int64_t tensor_bytes_;
  const std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace naiad
