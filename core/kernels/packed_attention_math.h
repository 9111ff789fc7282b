// The inner loops of attention in both directions within one text, once per instruction set.
//
// Batch invariance: what comes out for a token depends only on its query and on its text's keys and values, in their
// order; never on how the rows of a text are cut.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu_features.h"

namespace naiad {

// One head of one text, of which rows first_row .. end_row-1 are computed. Token t's vectors, head_size floats each,
// begin t strides behind the pointers.
struct PackedHead {
  const float* query = nullptr;
  const float* key = nullptr;
  const float* value = nullptr;
  float* output = nullptr;
  ptrdiff_t query_stride = 0;
  ptrdiff_t key_stride = 0;
  ptrdiff_t value_stride = 0;
  ptrdiff_t output_stride = 0;
  int32_t tokens = 0;  // At least 1.
  int32_t first_row = 0;
  int32_t end_row = 0;
  int32_t head_size = 0;
  float scale = 1.0F;
};

struct PackedAttentionMath {
  // Floats of memory that `attend` needs for a text of so many tokens.
  size_t (*scratch_floats)(int32_t tokens, int32_t head_size);
  // output = softmax(scale * query * transposed keys) * values. `scratch` is aligned to 64 bytes; its content does not
  // matter.
  void (*attend)(const PackedHead& head, float* scratch);
};

const PackedAttentionMath& PackedAttentionMathFor(SimdLevel level);

// Defined in their own translation units.
const PackedAttentionMath& ScalarPackedAttentionMath();
#if defined(__x86_64__)
const PackedAttentionMath& Avx2PackedAttentionMath();
const PackedAttentionMath& Avx512PackedAttentionMath();
#endif

}  // namespace naiad
