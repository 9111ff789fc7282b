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
  const auto quantise = [&](int64_t first, int64_t end) {
    for (int64_t r = first; r < end; ++r) {
      math.quantise_row(args.input.data() + r * inputs, inputs, args.weights.factor, RowsFrom(rows, r));
    }
  };
  if (row_count * inputs <= kSerialActivations) return quantise(0, row_count);
  const int64_t tasks = (row_count + kRowsPerRoundingTask - 1) / kRowsPerRoundingTask;
  parallel_for(static_cast<size_t>(tasks), [&](size_t task) {
    const int64_t first = static_cast<int64_t>(task) * kRowsPerRoundingTask;
    quantise(first, std::min(first + kRowsPerRoundingTask, row_count));
  });
}

// A multiple of four, so that two or four threads get equal shares, unless there are fewer tiles.
int64_t TaskCount(const LinearWeights& weights, int64_t rows) {
  const int64_t products = rows * weights.inputs * weights.outputs;
  const int64_t bytes = std::max(static_cast<int64_t>(weights.packed.size()), products / kProductsPerByte);
  const int64_t wanted = std::clamp((bytes / kTaskBytes + 3) / 4 * 4, int64_t{1}, kMaxTasks);
  return std::min(wanted, int64_t{TilesOf(weights.outputs)});
}

// Outputs of the tiles first .. end-1 for all rows, in passes over as many rows as stay in a cache near by.
void MultiplyTiles(const LinearArgs& args, const LinearMath& math, const QuantisedRows& rows, int64_t row_count,
                   int32_t first, int32_t end) {
  const LinearWeights& weights = args.weights;
  const auto multiply = weights.format == LinearFormat::kInt4 ? math.multiply_int4 : math.multiply_int8;
  const int64_t pass_rows = std::max(int64_t{12}, kPassBytes / (int64_t{rows.blocks} * kBlockInputs));
  for (int64_t row = 0; row < row_count; row += pass_rows) {
    LinearTile tile;
    tile.rows = RowsFrom(rows, row);
    tile.row_count = static_cast<int32_t>(std::min(pass_rows, row_count - row));
    tile.output_stride = weights.outputs;
    for (int32_t t = first; t < end; ++t) {
      const int32_t column = t * kTileOutputs;
      tile.packed = weights.packed.data() + t * TileBytes(weights.format, weights.inputs);
      tile.bias = weights.bias.empty() ? nullptr : weights.bias.data() + column;
      tile.output = args.output.data() + row * weights.outputs + column;
      tile.columns = std::min(kTileOutputs, weights.outputs - column);
      multiply(tile);
    }
  }
}

}  // namespace

QuantisedRows LinearScratch::Reserve(int64_t rows, int32_t inputs) {
  const size_t blocks = static_cast<size_t>(rows) * static_cast<size_t>(BlocksOf(inputs));
  if (blocks > offsets_.size()) {
    codes_.resize(blocks * kBlockInputs);
    floats_.resize(blocks * 2);
    offsets_.resize(blocks);
  }
  return {codes_.data(), floats_.data(), floats_.data() + blocks, offsets_.data(), BlocksOf(inputs)};
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
  return Status::Ok();
}

Status Linear(const LinearArgs& args, const LinearMath& math, const ParallelFor& parallel_for, LinearScratch* scratch) {
  const LinearWeights& weights = args.weights;
  const int64_t row_count = static_cast<int64_t>(args.input.size()) / weights.inputs;
  if (static_cast<int64_t>(args.input.size()) != row_count * weights.inputs) {
    return Status::InvalidArgument("input has " + std::to_string(args.input.size()) + " elements; expected rows of " +
                                   std::to_string(weights.inputs));
  }
  if (static_cast<int64_t>(args.output.size()) != row_count * weights.outputs) {
    return Status::InvalidArgument("output has " + std::to_string(args.output.size()) + " elements; expected " +
                                   std::to_string(row_count * weights.outputs));
  }
  if (row_count == 0) return Status::Ok();
  const QuantisedRows rows = scratch->Reserve(row_count, weights.inputs);
  QuantiseRows(args, row_count, math, parallel_for, rows);
  const int64_t tiles = TilesOf(weights.outputs);
  const int64_t tasks = TaskCount(weights, row_count);
  parallel_for(static_cast<size_t>(tasks), [&](size_t task) {
    const int64_t t = static_cast<int64_t>(task);
    MultiplyTiles(args, math, rows, row_count, static_cast<int32_t>(t * tiles / tasks),
                  static_cast<int32_t>((t + 1) * tiles / tasks));
  });
  return Status::Ok();
}

}  // namespace naiad
