// AVX2 and FMA. This file alone is compiled with those flags, so nothing that other units could inline may be defined
// here.
#include <immintrin.h>

#include "kernels/packed_attention_loops.h"

namespace naiad {
namespace {

struct Simd {
  using Vector = __m256;
  static constexpr int32_t kLanes = 8;
  static constexpr int32_t kRows = 4;
  static constexpr int32_t kTileVectors = 2;

  static __m256i First(int32_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vector Zero() { return _mm256_setzero_ps(); }
  static Vector Set(float value) { return _mm256_set1_ps(value); }
  static Vector Load(const float* from) { return _mm256_loadu_ps(from); }
  static void Store(float* to, Vector v) { _mm256_storeu_ps(to, v); }
  static Vector LoadFirst(const float* from, int32_t count) { return _mm256_maskload_ps(from, First(count)); }
  static void StoreFirst(float* to, Vector v, int32_t count) { _mm256_maskstore_ps(to, First(count), v); }
  static Vector KeepFirst(Vector v, int32_t count) {
    return _mm256_blendv_ps(Set(-std::numeric_limits<float>::infinity()), v, _mm256_castsi256_ps(First(count)));
  }
  static Vector Add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector Sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector Mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector MulAdd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector Max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  static float MaxOf(Vector v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static float SumOf(Vector v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static Vector Exp(Vector y) {
    const Vector lowest = Set(kLowestExponent);
    const Vector keep = _mm256_cmp_ps(y, lowest, _CMP_NLT_UQ);  // Also NaN, which has to come out as NaN.
    y = _mm256_blendv_ps(lowest, y, keep);
    const Vector n = _mm256_round_ps(Mul(y, Set(kLog2OfE)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vector r = _mm256_fnmadd_ps(n, Set(kLn2Low), _mm256_fnmadd_ps(n, Set(kLn2High), y));
    Vector p = Zero();
    for (const float coefficient : kExpPolynomial) p = MulAdd(p, r, Set(coefficient));
    const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_and_ps(keep, Mul(p, _mm256_castsi256_ps(exponent)));
  }
  static void Transpose4(const float* from, ptrdiff_t from_stride, float* to, ptrdiff_t to_stride) {
    __m128 a = _mm_loadu_ps(from);
    __m128 b = _mm_loadu_ps(from + from_stride);
    __m128 c = _mm_loadu_ps(from + 2 * from_stride);
    __m128 d = _mm_loadu_ps(from + 3 * from_stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(to, a);
    _mm_storeu_ps(to + to_stride, b);
    _mm_storeu_ps(to + 2 * to_stride, c);
    _mm_storeu_ps(to + 3 * to_stride, d);
  }
};

}  // namespace

const PackedAttentionMath& Avx2PackedAttentionMath() {
  static constexpr PackedAttentionMath kMath{PackedHeadLoops<Simd>::ScratchFloats, PackedHeadLoops<Simd>::Attend};
  return kMath;
}

}  // namespace naiad
