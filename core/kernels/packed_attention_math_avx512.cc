// AVX-512. This file alone is compiled with those flags, so nothing that other units could inline may be defined here.
#include <immintrin.h>

#include "kernels/packed_attention_loops.h"

namespace naiad {
namespace {

struct Simd {
  using Vector = __m512;
  static constexpr int32_t kLanes = 16;
  static constexpr int32_t kRows = 6;
  static constexpr int32_t kTileVectors = 4;

  static __mmask16 First(int32_t count) {
    return static_cast<__mmask16>(count >= kLanes ? 0xffffU : (1U << static_cast<unsigned>(count)) - 1U);
  }
  static Vector Zero() { return _mm512_setzero_ps(); }
  static Vector Set(float value) { return _mm512_set1_ps(value); }
  static Vector Load(const float* from) { return _mm512_loadu_ps(from); }
  static void Store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
  static Vector LoadFirst(const float* from, int32_t count) { return _mm512_maskz_loadu_ps(First(count), from); }
  static void StoreFirst(float* to, Vector v, int32_t count) { _mm512_mask_storeu_ps(to, First(count), v); }
  static Vector KeepFirst(Vector v, int32_t count) {
    return _mm512_mask_mov_ps(Set(-std::numeric_limits<float>::infinity()), First(count), v);
  }
  static Vector Add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector Sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector Mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector MulAdd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector Max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  static float MaxOf(Vector v) { return _mm512_reduce_max_ps(v); }
  static float SumOf(Vector v) { return _mm512_reduce_add_ps(v); }
  static Vector Exp(Vector y) {
    const Vector lowest = Set(kLowestExponent);
    const __mmask16 keep = _mm512_cmp_ps_mask(y, lowest, _CMP_NLT_UQ);  // Also NaN, which has to come out as NaN.
    y = _mm512_mask_blend_ps(keep, lowest, y);
    const Vector n = _mm512_roundscale_ps(Mul(y, Set(kLog2OfE)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vector r = _mm512_fnmadd_ps(n, Set(kLn2Low), _mm512_fnmadd_ps(n, Set(kLn2High), y));
    Vector p = Zero();
    for (const float coefficient : kExpPolynomial) p = MulAdd(p, r, Set(coefficient));
    const __m512i exponent = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
    return _mm512_maskz_mul_ps(keep, p, _mm512_castsi512_ps(exponent));
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

const PackedAttentionMath& Avx512PackedAttentionMath() {
  static constexpr PackedAttentionMath kMath{PackedHeadLoops<Simd>::ScratchFloats, PackedHeadLoops<Simd>::Attend};
  return kMath;
}

}  // namespace naiad
