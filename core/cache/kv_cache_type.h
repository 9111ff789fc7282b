// How the KV cache holds keys and values.
#pragma once

#include <cstdint>

namespace naiad {

// kFloat: what the model computed. kInt8: a quarter of that, rounded; kernels/quantised_row.h has the layout.
// kFloat16, kBfloat16: what a model for a GPU computed.
enum class KvCacheType { kFloat, kInt8, kFloat16, kBfloat16 };

// Memory of the key, or of the value, of one position of one KV head.
[[nodiscard]] constexpr int64_t KvRowBytes(KvCacheType type, int32_t head_size) {
  constexpr int64_t kFloatBytes = sizeof(float);
  switch (type) {
    case KvCacheType::kFloat:
      return head_size * kFloatBytes;
    case KvCacheType::kInt8:
      return head_size + kFloatBytes;
    case KvCacheType::kFloat16:
    case KvCacheType::kBfloat16:
      return head_size * kFloatBytes / 2;
  }
  return 0;
}

}  // namespace naiad
