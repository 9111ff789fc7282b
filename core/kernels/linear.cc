#include "kernels/linear.h"

#include <algorithm>
#include <string>

namespace naiad {
namespace {

// Sizes above this would overflow nothing yet, and no layer comes near it.
constexpr int32_t kMaxSize = 1 << 24;
// Activations of one pass over the weights: half of a small second-level cache.
constexpr int64_t kPassBytes = 256 * 1024;
// A task reads about this much, or computes as long as that takes (products of codes a byte): some microseconds, a few
// times what it costs to hand it to another thread.
constexpr int64_t kTaskBytes = 48 * 1024;
constexpr int64_t kProductsPerByte = 16;
constexpr int64_t kMaxTasks = 64;
// Rounding fewer activations than this is not worth a second thread.
constexpr int64_t kSerialActivations = 32 * 1024;
constexpr int64_t kRowsPerRoundingTask = 8;

void QuantiseRows(const LinearArgs& args, int64_t row_count, const LinearMath& math, const ParallelFor& parallel_for,
                  const QuantisedRows& rows) {
  const int32_t inputs = args.weights.inputs;
  const int64_t width = InputWidth(args.weights);
  const float factor = args.weights.factor;
  const RmsNorm norm{args.weights.norm_weight.data(), args.weights.epsilon};
  const auto quantise_row = args.weights.is_gated ? math.quantise_gated_row : math.quantise_row;
  const auto quantise = [&](int64_t first, int64_t end) {
    for (int64_t r = first; r < end; ++r) {
      const float* const from = args.input.data() + r * width;
      if (norm.weight == nullptr) {
        quantise_row(from, inputs, factor, RowsFrom(rows, r));
      } else {
        math.quantise_normalised_row(from, norm, inputs, factor, RowsFrom(rows, r));
      }
    }
  };
  if (row_count * width <= kSerialActivations) return quantise(0, row_count);
  const int64_t tasks = (row_count + kRowsPerRoundingTask - 1) / kRowsPerRoundingTask;
  parallel_for(static_cast<size_t>(tasks), [&](size_t task) {
    const int64_t first = static_cast<int64_t>(task) * kRowsPerRoundingTask;
    quantise(first, std::min(first + kRowsPerRoundingTask, row_count));
  });
}

// A multiple of four, so that two or four threads get equal shares.
int64_t TaskCount(const LinearWeights& weights, int64_t rows) {
  const int64_t products = rows * weights.inputs * weights.outputs;
  const int64_t bytes = std::max(static_cast<int64_t>(weights.packed.size()), products / kProductsPerByte);
  return std::clamp((bytes / kTaskBytes + 3) / 4 * 4, int64_t{1}, kMaxTasks);
}

// Outputs of the tiles first .. end-1 for all rows, in passes over as many rows as stay in a cache near by.
void MultiplyTiles(const LinearArgs& args, const LinearMath& math, const QuantisedRows& rows, int64_t row_count,
                   int32_t first, int32_t end) {
  const LinearWeights& weights = args.weights;
  const auto multiply = weights.format == LinearFormat::kInt4 ? math.multiply_int4 : math.multiply_int8;
  const int64_t panel_bytes = int64_t{rows.panel_rows} * rows.blocks * kBlockInputs;
  const int64_t pass_rows = std::max(int64_t{1}, kPassBytes / panel_bytes) * rows.panel_rows;
  for (int64_t row = 0; row < row_count; row += pass_rows) {
    LinearTiles tiles;
    tiles.tile_bytes = TileBytes(weights.format, weights.inputs);
    tiles.rows = RowsFrom(rows, row);
    tiles.row_count = static_cast<int32_t>(std::min(pass_rows, row_count - row));
    tiles.output_stride = weights.outputs;
    for (int32_t t = first; t < end; t += kMaxTiles) {
      const int32_t column = t * kTileOutputs;
      const int32_t end_column = std::min(std::min(t + kMaxTiles, end) * kTileOutputs, weights.outputs);
      tiles.packed = weights.packed.data() + t * tiles.tile_bytes;
      tiles.bias = weights.bias.empty() ? nullptr : weights.bias.data() + column;
      const int64_t at = row * weights.outputs + column;
      tiles.residual = args.residual.empty() ? nullptr : args.residual.data() + at;
      tiles.output = args.output.data() + at;
      tiles.columns = end_column - column;
      multiply(tiles);
    }
  }
}

}  // namespace

QuantisedRows LinearScratch::Reserve(int64_t rows, int32_t inputs, int32_t panel_rows) {
  const int64_t panels = (rows + panel_rows - 1) / panel_rows;
  const size_t entries = static_cast<size_t>(panels * panel_rows * BlocksOf(inputs));
  if (entries > offsets_.size()) {
    codes_.resize(entries * kBlockInputs);
    floats_.resize(entries * 2);
    offsets_.resize(entries);
  }
  return {codes_.data(), floats_.data(), floats_.data() + entries, offsets_.data(), BlocksOf(inputs), panel_rows};
}

Status CheckLinearWeights(const LinearWeights& weights) {
  for (const auto& [name, size] : {std::pair{"K", weights.inputs}, std::pair{"N", weights.outputs}}) {
    if (size < 1 || size > kMaxSize) {
      return Status::InvalidArgument(std::string(name) + " is " + std::to_string(size) + "; it must be 1 to " +
                                     std::to_string(kMaxSize));
    }
  }
  const int64_t expected = TilesOf(weights.outputs) * int64_t{TileBytes(weights.format, weights.inputs)};
  if (static_cast<int64_t>(weights.packed.size()) != expected) {
    return Status::InvalidArgument("packed has " + std::to_string(weights.packed.size()) + " bytes; expected " +
                                   std::to_string(expected));
  }
  if (!weights.bias.empty() && static_cast<int64_t>(weights.bias.size()) != weights.outputs) {
    return Status::InvalidArgument("bias has " + std::to_string(weights.bias.size()) + " elements; expected " +
                                   std::to_string(weights.outputs));
  }
  if (weights.norm_weight.empty()) return Status::Ok();
  if (weights.is_gated) return Status::InvalidArgument("norm_weight is given for gated activations");
  if (static_cast<int64_t>(weights.norm_weight.size()) != weights.inputs) {
    return Status::InvalidArgument("norm_weight has " + std::to_string(weights.norm_weight.size()) +
                                   " elements; expected " + std::to_string(weights.inputs));
  }
  if (!(weights.epsilon > 0.0F)) return Status::InvalidArgument("epsilon must be more than 0");
  return Status::Ok();
}

Status Linear(const LinearArgs& args, const LinearMath& math, const ParallelFor& parallel_for, LinearScratch* scratch) {
  const LinearWeights& weights = args.weights;
  const int64_t width = InputWidth(weights);
  const int64_t row_count = static_cast<int64_t>(args.input.size()) / width;
  if (static_cast<int64_t>(args.input.size()) != row_count * width) {
    return Status::InvalidArgument("input has " + std::to_string(args.input.size()) + " elements; expected rows of " +
                                   std::to_string(width));
  }
  if (static_cast<int64_t>(args.output.size()) != row_count * weights.outputs) {
    return Status::InvalidArgument("output has " + std::to_string(args.output.size()) + " elements; expected " +
                                   std::to_string(row_count * weights.outputs));
  }
  if (!args.residual.empty() && args.residual.size() != args.output.size()) {
    return Status::InvalidArgument("residual has " + std::to_string(args.residual.size()) + " elements; expected " +
                                   std::to_string(args.output.size()));
  }
  if (row_count == 0) return Status::Ok();
  // As even as can be: a panel of one row costs almost as much as one of three.
  const int64_t panels = (row_count + math.max_panel_rows - 1) / math.max_panel_rows;
  const int32_t panel_rows = static_cast<int32_t>((row_count + panels - 1) / panels);
  const QuantisedRows rows = scratch->Reserve(row_count, weights.inputs, panel_rows);
  QuantiseRows(args, row_count, math, parallel_for, rows);
  const int64_t pairs = (TilesOf(weights.outputs) + kMaxTiles - 1) / kMaxTiles;
  const int64_t tasks = std::min(TaskCount(weights, row_count), pairs);
  parallel_for(static_cast<size_t>(tasks), [&](size_t task) {
    const int64_t t = static_cast<int64_t>(task);
    const auto first_of = [&](int64_t which) { return static_cast<int32_t>(which * pairs / tasks * kMaxTiles); };
    MultiplyTiles(args, math, rows, row_count, first_of(t), std::min(first_of(t + 1), TilesOf(weights.outputs)));
  });
  return Status::Ok();
}

}  // namespace naiad
