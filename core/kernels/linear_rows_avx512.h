// Activations of a row of a linear layer, sixteen at a time, for what rounds them. Static, as the linker must not merge
// what is compiled for several instruction sets.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/linear_functions_avx512.h"
#include "kernels/linear_math.h"
#include "kernels/silu_constants.h"

namespace naiad {

static inline __m512 ExpNonPositive(__m512 y) {
  const __m512 lowest = _mm512_set1_ps(kLowestExponent);
  const __mmask16 keep = _mm512_cmp_ps_mask(y, lowest, _CMP_NLT_UQ);  // Also NaN, which has to come out as NaN.
  y = _mm512_mask_blend_ps(keep, lowest, y);
  const __m512 n =
      _mm512_roundscale_ps(_mm512_mul_ps(y, _mm512_set1_ps(kLog2OfE)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2Low), _mm512_fnmadd_ps(n, _mm512_set1_ps(kLn2High), y));
  __m512 p = _mm512_setzero_ps();
  for (const float coefficient : kExpPolynomial) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
  const __m512i exponent = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  return _mm512_maskz_mul_ps(keep, p, _mm512_castsi512_ps(exponent));
}

static inline __m512 Silu(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 e = ExpNonPositive(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(x)));
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mul_ps(x, _mm512_div_ps(_mm512_mask_blend_ps(negative, one, e), _mm512_add_ps(one, e)));
}

// Floats `first` .. first+15 of `count`, with zeros for those that lack.
static inline __m512 LoadFloats(const float* from, int32_t count, int32_t first) {
  return _mm512_maskz_loadu_ps(FirstLanes(count - first), from + first);
}

static inline float InverseRootMeanSquare(const float* from, int32_t inputs, float epsilon) {
  __m512 low = _mm512_setzero_ps();
  __m512 high = _mm512_setzero_ps();
  for (int32_t first = 0; first < inputs; first += kBlockInputs) {
    const __m512 low_values = LoadFloats(from, inputs, first);
    const __m512 high_values = LoadFloats(from, inputs, first + kLanes);
    low = _mm512_fmadd_ps(low_values, low_values, low);
    high = _mm512_fmadd_ps(high_values, high_values, high);
  }
  const __m512 sixteen = _mm512_add_ps(low, high);
  const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sixteen), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), upper);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  const float sum = _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  return 1.0F / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(sum / static_cast<float>(inputs) + epsilon)));
}

// What gives activations first .. first+15 of a row of `inputs`, with zeros for those that the row lacks: the floats at
// `from`,
static inline auto PlainActivations(const float* from, int32_t inputs) {
  return [=](int32_t first) __attribute__((always_inline)) { return LoadFloats(from, inputs, first); };
}

// silu(gate) * up,
static inline auto GatedActivations(const float* from, int32_t inputs) {
  return [=](int32_t first) __attribute__((always_inline)) {
    return _mm512_mul_ps(Silu(LoadFloats(from, inputs, first)), LoadFloats(from + inputs, inputs, first));
  };
}

// the row's RMSNorm.
static inline auto NormalisedActivations(const float* from, const RmsNorm& norm, int32_t inputs) {
  const __m512 inverse = _mm512_set1_ps(InverseRootMeanSquare(from, inputs, norm.epsilon));
  const float* const weight = norm.weight;
  return [=](int32_t first) __attribute__((always_inline)) {
    const __m512 normalised = _mm512_mul_ps(LoadFloats(from, inputs, first), inverse);
    return _mm512_mul_ps(normalised, LoadFloats(weight, inputs, first));
  };
}

}  // namespace naiad
