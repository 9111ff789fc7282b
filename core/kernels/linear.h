// Product of activations with quantised weights: the kernel behind naiad::Linear.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/status.h"
#include "kernels/linear_layout.h"
#include "kernels/linear_math.h"
#include "kernels/parallel_for.h"

namespace naiad {

// The weights of one layer, in the layout of linear_layout.h; the memory is the caller's.
struct LinearWeights {
  LinearFormat format = LinearFormat::kInt8;
  int32_t inputs = 0;
  int32_t outputs = 0;
  float factor = 1.0F;              // Multiplies every scale and minimum.
  std::span<const uint8_t> packed;  // TilesOf(outputs) * TileBytes(format, inputs) bytes
  std::span<const float> bias;      // [outputs], or empty
  bool is_gated = false;            // Whether the input holds gates and ups instead of activations, see Linear.
  std::span<const float> norm_weight =
      {};                 // [inputs] if the input's RMSNorm is multiplied, else empty. Not with gates.
  float epsilon = 0.0F;   // Of that norm.
  bool has_gelu = false;  // Whether outputs go through GELU (with erf) before the residual is added.
};

// Floats in one row of the input.
inline int64_t InputWidth(const LinearWeights& weights) {
  return weights.is_gated ? int64_t{2} * weights.inputs : int64_t{weights.inputs};
}

// Memory that calls leave behind for the next one, so that in the long run none allocates. One call at a time.
class LinearScratch {
 public:
  // Room for `rows` rows of `inputs` activations in panels of `panel_rows`, with unspecified content; a panel's codes
  // begin with a line of memory if those of its blocks are whole lines.
  QuantisedRows Reserve(LinearFormat format, int64_t rows, int32_t inputs, int32_t panel_rows, int32_t code_bytes = 1);

 private:
  struct alignas(kVectorBytes) Line {
    std::array<int8_t, kVectorBytes> codes;
  };
  std::vector<Line> codes_;
  std::vector<float> floats_;
  std::vector<int32_t> offsets_;
};

struct LinearArgs {
  LinearWeights weights;
  std::span<const float> input;          // [rows, inputs], or [rows, 2 * inputs] if the weights are gated
  std::span<float> output;               // [rows, outputs]; overlaps no input
  std::span<const float> residual = {};  // [rows, outputs], or empty
};

// kInvalidArgument unless the sizes are positive, the weights' memory is as long as they say, and the norm can be
// computed.
Status CheckLinearWeights(const LinearWeights& weights);

// output[r] = gelu(weights * 8-bit(input[r]) + bias) + residual[r], where 8-bit() rounds blocks of activations to scale
// * code (docs/contracts.md section 2), or to bfloat16 where `math` has tiles for that, and gelu() is there if the
// weights say so. Gated: the activations are silu(gate)
// * up, with the row's gates before its ups. With a norm: they are the row's RMSNorm. A row's bits do not depend on the
// other rows. kInvalidArgument, with nothing written, if the lengths do not fit together; the weights have been checked
// before, by CheckLinearWeights.
Status Linear(const LinearArgs& args, const LinearMath& math, const ParallelFor& parallel_for, LinearScratch* scratch);

}  // namespace naiad
