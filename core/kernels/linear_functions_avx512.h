// What the loops of linear layers for AVX-512 share, with AMX and without. Static, as the linker must not merge what is
// compiled for several instruction sets.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gelu_constants.h"
#include "kernels/linear_math.h"
#include "kernels/unroll.h"

namespace naiad {

static constexpr int32_t kLanes = 16;
// With as many panels the next tiles come slowly enough for the first-level cache; with fewer they would push out there
// what is being multiplied.
static constexpr ptrdiff_t kNearPanels = 4;

static inline __m512 LoadHalves(const uint8_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

static inline __mmask16 FirstLanes(int32_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffffU : (1U << static_cast<unsigned>(count < 0 ? 0 : count)) - 1U);
}

// What a panel asks memory for at each of its blocks: `bytes` bytes, `at` for the first block.
struct Prefetch {
  const uint8_t* at = nullptr;
  ptrdiff_t bytes = 0;
  bool is_near = false;  // Whether it shall come to the first-level cache.
};

// Several panels go over the same tiles, which only the first would find in memory: each asks for its share of the next
// tiles, so that memory is as busy as arithmetic is. A single row leaves that to the hardware, which is faster.
template <LinearFormat kFormat, int kTiles>
static inline Prefetch PrefetchOf(const LinearTiles& tiles, int32_t first_row) {
  if (tiles.row_count == 1 || tiles.next_packed == nullptr) return {};
  const ptrdiff_t panels = (tiles.row_count + tiles.rows.panel_rows - 1) / tiles.rows.panel_rows;
  const ptrdiff_t bytes =
      (kTiles * BlockBytes(kFormat) + panels * kVectorBytes - 1) / (panels * kVectorBytes) * kVectorBytes;
  const ptrdiff_t panel = first_row / tiles.rows.panel_rows;
  return {tiles.next_packed + panel * bytes * tiles.rows.blocks, bytes, panels >= kNearPanels};
}

[[gnu::always_inline]] static inline void PrefetchShare(Prefetch* prefetch) {
  for (ptrdiff_t line = 0; line < prefetch->bytes; line += kVectorBytes) {
    const char* const at = reinterpret_cast<const char*>(prefetch->at + line);
    prefetch->is_near ? _mm_prefetch(at, _MM_HINT_T0) : _mm_prefetch(at, _MM_HINT_T1);
  }
  prefetch->at += prefetch->bytes;
}

// Rows of the residual lie far apart, so that nothing else brings them near before they are added.
template <int kRows, int kTiles>
static inline void PrefetchResidual(const LinearTiles& tiles, int32_t first_row) {
  if (tiles.residual == nullptr) return;
  for (int32_t r = 0; r < kRows; ++r) {
    const float* const row = tiles.residual + (first_row + r) * tiles.output_stride;
    for (int32_t t = 0; t < kTiles; ++t) {
      _mm_prefetch(reinterpret_cast<const char*>(row + t * kTileOutputs), _MM_HINT_T0);
    }
  }
}

static inline __m512 Gelu(__m512 x) {
  const __m512 limit = _mm512_set1_ps(kGeluLimit);
  const __m512 t = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(kGeluScale), _mm512_set1_ps(-1.0F));
  __m512 p = _mm512_setzero_ps();
  for (const float coefficient : kGeluPolynomial) p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(coefficient));
  __m512 phi = _mm512_fmadd_ps(x, p, _mm512_set1_ps(0.5F));
  phi = _mm512_mask_mov_ps(phi, _mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), _mm512_set1_ps(1.0F));
  const __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-kGeluLimit), _CMP_LE_OQ);
  return _mm512_mul_ps(x, _mm512_mask_mov_ps(phi, low, _mm512_setzero_ps()));
}

// Writes what has been summed up for kRows rows and kTiles tiles, after bias, GELU and residual.
template <int kRows, int kTiles>
[[gnu::always_inline]] static inline void StoreOutputs(const LinearTiles& tiles, int32_t first_row,
                                                       const __m512* outputs) {
  Unroll<kTiles>([&](auto t) __attribute__((always_inline)) {
    const __mmask16 columns = FirstLanes(tiles.columns - t * kTileOutputs);
    Unroll<kRows>([&](auto r) __attribute__((always_inline)) {
      __m512 output = outputs[r * kTiles + t];
      if (tiles.bias != nullptr) {
        output = _mm512_add_ps(output, _mm512_maskz_loadu_ps(columns, tiles.bias + t * kTileOutputs));
      }
      if (tiles.has_gelu) output = Gelu(output);
      const ptrdiff_t at = (first_row + r) * tiles.output_stride + t * kTileOutputs;
      if (tiles.residual != nullptr) {
        output = _mm512_add_ps(output, _mm512_maskz_loadu_ps(columns, tiles.residual + at));
      }
      _mm512_mask_storeu_ps(tiles.output + at, columns, output);
    });
  });
}

}  // namespace naiad
