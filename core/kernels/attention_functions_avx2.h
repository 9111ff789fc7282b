// exp and tanh for the AVX2 loops of attention. Static, as the linker must not merge what is compiled for several
// instruction sets.
#pragma once

#include <immintrin.h>

#include "kernels/exp_constants.h"

namespace naiad {

template <int kCount>
[[gnu::always_inline]] static inline __m256 Polynomial(const float (&coefficients)[kCount], __m256 x) {
  __m256 p = _mm256_set1_ps(coefficients[0]);
  for (int i = 1; i < kCount; ++i) p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(coefficients[i]));
  return p;
}

static inline __m256 ExpNonPositive(__m256 x) {
  const __m256 lowest = _mm256_set1_ps(kLowestExponent);
  const __m256 keep = _mm256_cmp_ps(x, lowest, _CMP_NLT_UQ);  // Also true for NaN, which has to come out as NaN.
  x = _mm256_blendv_ps(lowest, x, keep);
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(kLog2OfE)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2High), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(kLn2Low), r);
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(_mm256_mul_ps(Polynomial(kExpPolynomial, r), _mm256_castsi256_ps(exponent)), keep);
}

static inline __m256 Tanh(__m256 x) {
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0F));
  const __m256 magnitude = _mm256_xor_ps(x, sign);
  const __m256 small = _mm256_mul_ps(Polynomial(kTanhPolynomial, _mm256_mul_ps(x, x)), magnitude);
  const __m256 one = _mm256_set1_ps(1.0F);
  const __m256 e = ExpNonPositive(_mm256_mul_ps(magnitude, _mm256_set1_ps(-2.0F)));
  const __m256 large = _mm256_div_ps(_mm256_sub_ps(one, e), _mm256_add_ps(one, e));
  const __m256 is_large = _mm256_cmp_ps(magnitude, _mm256_set1_ps(kLargestSmallTanh), _CMP_GT_OQ);
  return _mm256_or_ps(_mm256_blendv_ps(small, large, is_large), sign);
}

}  // namespace naiad
