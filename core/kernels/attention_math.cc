#include "kernels/attention_math.h"

namespace naiad {

const AttentionMath& AttentionMathFor(SimdLevel level) {
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx512) return Avx512AttentionMath();
  if (level >= SimdLevel::kAvx2) return Avx2AttentionMath();
#endif
  static_cast<void>(level);
  return ScalarAttentionMath();
}

}  // namespace naiad
