#include "ort/kv_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <string>

namespace naiad {
namespace {

// A block of float heads of 64 is one small page, and blocks lie anywhere: with small pages, attention would look up an
// address for each. A wish, which a system without huge pages may refuse.
void PreferHugePages(std::byte* memory, int64_t bytes) {
  constexpr uintptr_t kHugePageBytes = uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const uintptr_t end = (begin + static_cast<uintptr_t>(bytes)) / kHugePageBytes * kHugePageBytes;
  if (first < end) static_cast<void>(madvise(memory + (first - begin), end - first, MADV_HUGEPAGE));
}

}  // namespace

Status KvPool::Create(const KvPoolShape& shape, int64_t bytes, std::unique_ptr<KvPool>* pool) {
  const int64_t block_bytes = KvBlockBytes(shape);
  if (bytes < block_bytes) {
    return Status::InvalidArgument("kv_cache_bytes is " + std::to_string(bytes) + "; one block needs " +
                                   std::to_string(block_bytes));
  }
  const int64_t num_blocks = std::min<int64_t>(bytes / block_bytes, std::numeric_limits<int32_t>::max());
  // calloc, not a vector: large zeroed memory costs nothing until it is written to.
  std::unique_ptr<std::byte, Free> memory(
      static_cast<std::byte*>(std::calloc(static_cast<size_t>(num_blocks), static_cast<size_t>(block_bytes))));
  if (memory == nullptr) {
    return Status::ResourceExhausted("no memory for a KV cache of " + std::to_string(num_blocks * block_bytes) +
                                     " bytes");
  }
  PreferHugePages(memory.get(), num_blocks * block_bytes);
  const int64_t tensors = 2 * int64_t{shape.num_layers};
  pool->reset(
      new KvPool(static_cast<int32_t>(num_blocks), tensors, num_blocks * block_bytes / tensors, std::move(memory)));
  return Status::Ok();
}

void KvPool::CopyBlock(int32_t source, int32_t target) {
  const int64_t block_bytes = tensor_bytes_ / num_blocks_;
  for (int64_t begin = 0; begin < tensors_ * tensor_bytes_; begin += tensor_bytes_) {
    std::byte* const tensor = memory_.get() + begin;
    std::copy_n(tensor + source * block_bytes, block_bytes, tensor + target * block_bytes);
  }
}

}  // namespace naiad
