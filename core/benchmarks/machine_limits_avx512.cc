#include <immintrin.h>

#include "machine_limits.h"

namespace naiad {

double SpinVnni(long rounds) {
  constexpr int kChains = 12;
  __m512i sums[kChains];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  const __m512i ones = _mm512_set1_epi8(1);
  for (long i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, ones, ones);
      asm volatile("" : "+v"(sum));
    }
  }
  return 2.0 * 64.0 * kChains * static_cast<double>(rounds);
}

}  // namespace naiad
