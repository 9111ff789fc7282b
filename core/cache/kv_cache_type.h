// How the KV cache holds keys and values.
#pragma once

#include <cstdint>

namespace naiad {

// kFloat: what the model computed. kInt8: a quarter of that, rounded; kernels/quantised_row.h has the layout.
enum class KvCacheType { kFloat, kInt8 };

// Memory of the key, or of the value, of one position of one KV head.
[[nodiscard]] constexpr int64_t KvRowBytes(KvCacheType type, int32_t head_size) {
  constexpr int64_t kFloatBytes = sizeof(float);
  return type == KvCacheType::kInt8 ? head_size + kFloatBytes : head_size * kFloatBytes;
}

}  // namespace naiad
