// exp and tanh for the AVX-512 loops of attention. Static, as the linker must not merge what is compiled for several
// instruction sets.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/exp_constants.h"

namespace naiad {

// The first `count` lanes, 0 .. 16.
static inline __mmask16 FirstLanes(int32_t count) {
  return static_cast<__mmask16>((1U << static_cast<unsigned>(count)) - 1U);
}

template <int kCount>
[[gnu::always_inline]] static inline __m512 Polynomial(const float (&coefficients)[kCount], __m512 x) {
  __m512 p = _mm512_set1_ps(coefficients[0]);
  for (int i = 1; i < kCount; ++i) p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(coefficients[i]));
  return p;
}

static inline __m512 ExpNonPositive(__m512 x) {
  // Also true for NaN, which has to come out as NaN.
  const __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(kLowestExponent), _CMP_NLT_UQ);
  const __m512 n =
      _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(kLog2OfE)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2High), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2Low), r);
  return _mm512_maskz_scalef_ps(keep, Polynomial(kExpPolynomial, r), n);
}

static inline __m512 Tanh(__m512 x) {
  const __m512 magnitude = _mm512_abs_ps(x);
  const __m512 small = _mm512_mul_ps(Polynomial(kTanhPolynomial, _mm512_mul_ps(x, x)), magnitude);
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 e = ExpNonPositive(_mm512_mul_ps(magnitude, _mm512_set1_ps(-2.0F)));
  const __m512 large = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
  const __mmask16 is_large = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(kLargestSmallTanh), _CMP_GT_OQ);
  const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
  const __m512 result = _mm512_mask_blend_ps(is_large, small, large);
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(result), sign));
}

}  // namespace naiad
