// The portable one.
#include <bit>
#include <cmath>

#include "kernels/packed_attention_loops.h"

namespace naiad {
namespace {

struct Simd {
  using Vector = float;
  static constexpr int32_t kLanes = 1;
  static constexpr int32_t kRows = 4;
  static constexpr int32_t kTileVectors = 2;

  static Vector Zero() { return 0.0F; }
  static Vector Set(float value) { return value; }
  static Vector Load(const float* from) { return *from; }
  static void Store(float* to, Vector v) { *to = v; }
  static Vector LoadFirst(const float* from, int32_t count) { return count > 0 ? *from : 0.0F; }
  static void StoreFirst(float* to, Vector v, int32_t count) {
    if (count > 0) *to = v;
  }
  static Vector KeepFirst(Vector v, int32_t count) { return count > 0 ? v : -std::numeric_limits<float>::infinity(); }
  static Vector Add(Vector a, Vector b) { return a + b; }
  static Vector Sub(Vector a, Vector b) { return a - b; }
  static Vector Mul(Vector a, Vector b) { return a * b; }
  static Vector MulAdd(Vector a, Vector b, Vector c) { return std::fma(a, b, c); }
  static Vector Max(Vector a, Vector b) { return a > b ? a : b; }
  static float MaxOf(Vector v) { return v; }
  static float SumOf(Vector v) { return v; }
  static Vector Exp(Vector y) { return std::exp(y); }
  static void Transpose4(const float* from, ptrdiff_t from_stride, float* to, ptrdiff_t to_stride) {
    for (int row = 0; row < 4; ++row) {
      for (int column = 0; column < 4; ++column) to[column * to_stride + row] = from[row * from_stride + column];
    }
  }
};

}  // namespace

const PackedAttentionMath& ScalarPackedAttentionMath() {
  static constexpr PackedAttentionMath kMath{PackedHeadLoops<Simd>::ScratchFloats, PackedHeadLoops<Simd>::Attend};
  return kMath;
}

const PackedAttentionMath& PackedAttentionMathFor(SimdLevel level) {
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx512) return Avx512PackedAttentionMath();
  if (level == SimdLevel::kAvx2) return Avx2PackedAttentionMath();
#endif
  static_cast<void>(level);
  return ScalarPackedAttentionMath();
}

}  // namespace naiad
