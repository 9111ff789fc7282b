#include <immintrin.h>

#include "kernels/unroll.h"
#include "machine_limits.h"

namespace naiad {

double SpinVnni(long rounds) {
  constexpr int kChains = 12;
  __m512i sums[kChains];
  Unroll<kChains>([&](auto i) { sums[i] = _mm512_setzero_si512(); });
  const __m512i ones = _mm512_set1_epi8(1);
  for (long i = 0; i < rounds; ++i) {
    Unroll<kChains>([&](auto chain) {
      sums[chain] = _mm512_dpbusd_epi32(sums[chain], ones, ones);
      asm volatile("" : "+v"(sums[chain]));
    });
  }
  return 2.0 * 64.0 * kChains * static_cast<double>(rounds);
}

double SpinFma(long rounds) {
  constexpr int kChains = 12;
  __m512 sums[kChains];
  Unroll<kChains>([&](auto i) { sums[i] = _mm512_setzero_ps(); });
  const __m512 factor = _mm512_set1_ps(0.5F);
  for (long i = 0; i < rounds; ++i) {
    Unroll<kChains>([&](auto chain) {
      sums[chain] = _mm512_fmadd_ps(sums[chain], factor, factor);
      asm volatile("" : "+v"(sums[chain]));
    });
  }
  return 2.0 * 16.0 * kChains * static_cast<double>(rounds);
}

}  // namespace naiad
