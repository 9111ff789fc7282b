#include "kernels/linear_math.h"

namespace naiad {

const LinearMath& LinearMathFor(SimdLevel level) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAmx) return AmxLinearMath();
  if (level == SimdLevel::kAvx512) return Avx512LinearMath();
  if (level == SimdLevel::kAvx2) return Avx2LinearMath();
#endif
  static_cast<void>(level);
  return ScalarLinearMath();
}

}  // namespace naiad
