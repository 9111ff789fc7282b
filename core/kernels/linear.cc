#include "kernels/linear.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <thread>

namespace naiad {
namespace {

// Sizes above this would overflow nothing yet, and no layer comes near it.
constexpr int32_t kMaxSize = 1 << 24;
// Activations of one pass over the weights: half of a small second-level cache. CPUs that multiply bfloat16 have 2 MB.
constexpr int64_t kPassBytes = 256 * 1024;
constexpr int64_t kBf16PassBytes = 1024 * 1024;
// A task is worth having if it reads about this much, or computes as long as that takes (products of codes a byte):
// some microseconds, a few times what it costs to hand it to another thread.
constexpr int64_t kTaskBytes = 48 * 1024;
constexpr int64_t kProductsPerByte = 16;
constexpr int64_t kMaxTasks = 64;
// A share is at most this part of what is left in its region, so that all threads end at the same time.
constexpr int64_t kSharesLeft = 4;
// Asked of memory before the rows are rounded: what the first share begins with.
constexpr ptrdiff_t kHeadStartBytes = 4096;
constexpr size_t kLineBytes = 64;
// Looks at a counter before the thread lets others run.
constexpr int kSpins = 256;

void Prefetch(const uint8_t* from, ptrdiff_t bytes) {
  for (ptrdiff_t at = 0; at < bytes; at += kLineBytes) __builtin_prefetch(from + at);
}

// What rounds and multiplies rows of one number of one format.
struct Kernel {
  int32_t max_panel_rows = 0;
  decltype(LinearMath::quantise_row) round_row = nullptr;
  decltype(LinearMath::quantise_gated_row) round_gated_row = nullptr;
  decltype(LinearMath::quantise_normalised_row) round_normalised_row = nullptr;
  decltype(LinearMath::multiply_int8) multiply = nullptr;
  int32_t code_bytes = 1;
  int64_t pass_bytes = kPassBytes;
};

Kernel KernelFor(const LinearMath& math, LinearFormat format, int64_t row_count) {
  Kernel kernel{math.max_panel_rows, math.quantise_row, math.quantise_gated_row, math.quantise_normalised_row,
                math.multiply_int8};
  const LinearMath::Bf16Tiles& bf16 = math.bf16_tiles;
  if (format == LinearFormat::kInt8Wide) {
    const bool is_many = math.wide_tiles.multiply != nullptr && row_count >= math.wide_tiles.min_rows;
    if (is_many) kernel.max_panel_rows = math.wide_tiles.max_panel_rows;
    kernel.multiply = is_many ? math.wide_tiles.multiply : math.multiply_int8_wide;
  } else if (format == LinearFormat::kInt4 && bf16.multiply != nullptr) {
    kernel = {bf16.max_panel_rows, bf16.round_row, bf16.round_gated_row, bf16.round_normalised_row, bf16.multiply, 2,
              kBf16PassBytes};
  } else if (format == LinearFormat::kInt4) {
    kernel.max_panel_rows = math.max_int4_panel_rows;
    kernel.multiply = math.multiply_int4;
  }
  return kernel;
}

// One product, cut into units: a panel of rows times kMaxTiles tiles. They are in the order of passes (over as many
// panels as stay in a cache near by), in each of the pairs of tiles, in each of the panels.
//
// The tasks share out rows and units among themselves, as only they know when their threads come: each has a region of
// its own, so that its weights are one stream of memory, and helps others with what they have left. With several rows,
// or weights to unpack, it takes its next share before it begins with the one that it has: then it knows what to ask
// memory for.
class Product {
 public:
  Product(const LinearArgs& args, const Kernel& kernel, const QuantisedRows& rows, int64_t row_count)
      : args_(args), kernel_(kernel), rows_(rows), row_count_(row_count) {
    const LinearWeights& weights = args.weights;
    panels_ = (row_count + rows.panel_rows - 1) / rows.panel_rows;
    const int64_t panel_bytes = int64_t{rows.panel_rows} * rows.blocks * rows.block_inputs * rows.code_bytes;
    const int64_t passes = (panels_ * panel_bytes + kernel.pass_bytes - 1) / kernel.pass_bytes;
    pass_panels_ = (panels_ + passes - 1) / passes;
    pairs_ = (TilesOf(weights.outputs) + kMaxTiles - 1) / kMaxTiles;
    tile_bytes_ = TileBytes(weights.format, weights.inputs);
    const int64_t products = row_count * weights.inputs * weights.outputs;
    bytes_ = std::max(static_cast<int64_t>(weights.packed.size()), products / kProductsPerByte);
    share_pairs_ = (pairs_ + MaxTaskCount() - 1) / MaxTaskCount();
    // As each takes what it can, more tasks than threads would only be handed out to find nothing left.
    static const int64_t threads = std::max(1U, std::thread::hardware_concurrency());
    task_count_ = std::min(MaxTaskCount(), threads);
    for (int64_t t = 0; t < task_count_; ++t) {
      const size_t at = static_cast<size_t>(t);
      unit_regions_[at].next.store(FirstUnit(t), std::memory_order_relaxed);
      unit_regions_[at].end = FirstUnit(t + 1);
      panel_regions_[at].next.store(t * panels_ / task_count_, std::memory_order_relaxed);
      panel_regions_[at].end = (t + 1) * panels_ / task_count_;
    }
  }

  int64_t TaskCount() const { return task_count_; }

  // Task `task` of TaskCount().
  void RunTask(int64_t task) {
    Share next = TakeShare(task);
    if (next.first == next.end) return;
    // With a single row there is time only for memory, unless weights are unpacked.
    const bool looks_ahead = row_count_ > 1 || rows_.code_bytes > 1;
    Prefetch(PackedAt(next.first), kHeadStartBytes);
    RoundRows(task);
    while (next.first != next.end) {
      const Share share = next;
      if (looks_ahead) next = TakeShare(task);
      MultiplyShare(share, next);
      if (!looks_ahead) next = TakeShare(task);
    }
  }

 private:
  struct Share {
    int64_t first = 0;
    int64_t end = 0;
  };
  struct alignas(kLineBytes) Region {
    std::atomic<int64_t> next = 0;
    int64_t end = 0;
  };
  using Regions = std::array<Region, kMaxTasks>;  // task_count_ of them, which follow each other.
  struct Place {
    int64_t first_panel = 0;  // Of the pass.
    int64_t panels = 0;       // In the pass.
    int64_t panel = 0;        // In the pass.
    int64_t pair = 0;
  };

  int64_t Units() const { return panels_ * pairs_; }

  // Of a task's region, which begins with a pair.
  int64_t FirstUnit(int64_t task) const {
    if (task == task_count_) return Units();
    const int64_t unit = task * Units() / task_count_;
    return unit - PlaceOf(unit).panel;
  }

  int64_t MaxTaskCount() const { return std::clamp(bytes_ / kTaskBytes, int64_t{1}, std::min(kMaxTasks, Units())); }

  Place PlaceOf(int64_t unit) const {
    const int64_t pass = unit / (pass_panels_ * pairs_);
    const int64_t rest = unit - pass * pass_panels_ * pairs_;
    const int64_t panels = std::min(pass_panels_, panels_ - pass * pass_panels_);
    return {pass * pass_panels_, panels, rest % panels, rest / panels};
  }

  const uint8_t* PackedAt(int64_t unit) const {
    return args_.weights.packed.data() + PlaceOf(unit).pair * kMaxTiles * tile_bytes_;
  }

  // Units from `unit` on, of which there are `left` in the region: whole pairs, towards the end single panels. For a
  // single panel all are as large as can be: it waits for memory, which is fastest in long streams.
  int64_t ShareAt(int64_t unit, int64_t left) const {
    const Place place = PlaceOf(unit);
    if (panels_ == 1) return std::min(share_pairs_, left);
    const int64_t part = left / kSharesLeft;
    const int64_t pairs = std::min(share_pairs_, part / place.panels);
    const int64_t units = pairs > 0 ? pairs * place.panels : std::max(part, int64_t{1});
    return std::min({units, std::max(pairs, int64_t{1}) * place.panels - place.panel, left});
  }

  // From the task's own region, else from the others'; `size_at` says how much from where on, with how much left.
  template <typename SizeAt>
  Share Take(Regions& regions, int64_t task, const SizeAt& size_at) const {
    for (int64_t i = 0; i < task_count_; ++i) {
      Region& region = regions[static_cast<size_t>((task + i) % task_count_)];
      int64_t first = region.next.load(std::memory_order_relaxed);
      while (first < region.end) {
        const int64_t end = first + size_at(first, region.end - first);
        if (region.next.compare_exchange_weak(first, end, std::memory_order_relaxed)) return {first, end};
      }
    }
    return {};
  }

  Share TakeShare(int64_t task) {
    return Take(unit_regions_, task, [this](int64_t unit, int64_t left) { return ShareAt(unit, left); });
  }

  void RoundRow(int64_t row) {
    const LinearWeights& weights = args_.weights;
    const float* const from = args_.input.data() + row * InputWidth(weights);
    const QuantisedRows to = RowsFrom(rows_, row);
    if (!weights.norm_weight.empty()) {
      const RmsNorm norm{weights.norm_weight.data(), weights.epsilon};
      kernel_.round_normalised_row(from, norm, weights.inputs, weights.factor, to);
    } else {
      const auto round_row = weights.is_gated ? kernel_.round_gated_row : kernel_.round_row;
      round_row(from, weights.inputs, weights.factor, to);
    }
  }

  // Returns when all rows are rounded, whoever did it. A panel is one piece: its rows lie in the same lines of memory.
  void RoundRows(int64_t task) {
    const auto one = [](int64_t, int64_t) { return int64_t{1}; };
    for (Share share; (share = Take(panel_regions_, task, one)).first != share.end;) {
      const int64_t first = share.first * rows_.panel_rows;
      const int64_t end = std::min(first + rows_.panel_rows, row_count_);
      for (int64_t r = first; r < end; ++r) {
        RoundRow(r);
      }
      rounded_rows_.fetch_add(end - first, std::memory_order_release);
    }
    for (int spins = 0; rounded_rows_.load(std::memory_order_acquire) != row_count_; ++spins) {
      if (spins >= kSpins) std::this_thread::yield();
    }
  }

  void MultiplyShare(const Share& share, const Share& next) {
    for (int64_t unit = share.first; unit < share.end;) {
      const Place place = PlaceOf(unit);
      const int64_t panels = std::min(place.panels - place.panel, share.end - unit);
      unit += panels;
      const int64_t following = unit < share.end ? unit : next.first;
      const bool is_last = unit == share.end && next.first == next.end;
      MultiplyPair(place, panels, is_last ? nullptr : PackedAt(following));
    }
  }

  // Outputs of one pair of tiles for `panels` panels.
  void MultiplyPair(const Place& place, int64_t panels, const uint8_t* next_packed) {
    const LinearWeights& weights = args_.weights;
    const int64_t row = (place.first_panel + place.panel) * rows_.panel_rows;
    const int32_t t = static_cast<int32_t>(place.pair) * kMaxTiles;
    const int32_t column = t * kTileOutputs;
    LinearTiles tiles;
    tiles.packed = weights.packed.data() + t * tile_bytes_;
    tiles.next_packed = next_packed == tiles.packed ? nullptr : next_packed;
    tiles.tile_bytes = tile_bytes_;
    tiles.rows = RowsFrom(rows_, row);
    tiles.row_count = static_cast<int32_t>(std::min(panels * rows_.panel_rows, row_count_ - row));
    tiles.output_stride = weights.outputs;
    tiles.bias = weights.bias.empty() ? nullptr : weights.bias.data() + column;
    tiles.has_gelu = weights.has_gelu;
    const int64_t at = row * weights.outputs + column;
    tiles.residual = args_.residual.empty() ? nullptr : args_.residual.data() + at;
    tiles.output = args_.output.data() + at;
    tiles.columns = std::min(kMaxTiles * kTileOutputs, weights.outputs - column);
    kernel_.multiply(tiles);
  }

  const LinearArgs& args_;
  const Kernel& kernel_;
  const QuantisedRows rows_;
  const int64_t row_count_;
  int64_t panels_ = 0;       // Of all rows.
  int64_t pass_panels_ = 0;  // Of each pass but the last, which may have fewer.
  int64_t pairs_ = 0;
  int64_t share_pairs_ = 0;  // In a share, at most.
  int64_t bytes_ = 0;        // Read, or the time it takes to compute.
  ptrdiff_t tile_bytes_ = 0;
  int64_t task_count_ = 0;
  Regions unit_regions_;
  Regions panel_regions_;  // To be rounded.
  alignas(kLineBytes) std::atomic<int64_t> rounded_rows_ = 0;
};

}  // namespace

QuantisedRows LinearScratch::Reserve(LinearFormat format, int64_t rows, int32_t inputs, int32_t panel_rows,
                                     int32_t code_bytes) {
  const int32_t blocks = BlocksOf(format, inputs);
  const int64_t panels = (rows + panel_rows - 1) / panel_rows;
  const size_t entries = static_cast<size_t>(panels * panel_rows * blocks);
  const size_t bytes = entries * static_cast<size_t>(BlockInputs(format) * code_bytes);
  const size_t lines = (bytes + kVectorBytes - 1) / kVectorBytes;
  if (lines > codes_.size()) codes_.resize(lines);
  if (entries > offsets_.size()) {
    floats_.resize(entries * 2);
    offsets_.resize(entries);
  }
  return {codes_.data()->codes.data(), floats_.data(), floats_.data() + entries, offsets_.data(), blocks, panel_rows,
          BlockInputs(format),         code_bytes};
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
  const Kernel kernel = KernelFor(math, weights.format, row_count);
  const int64_t panels = (row_count + kernel.max_panel_rows - 1) / kernel.max_panel_rows;
  const int32_t panel_rows = static_cast<int32_t>((row_count + panels - 1) / panels);
  const QuantisedRows rows = scratch->Reserve(weights.format, row_count, weights.inputs, panel_rows, kernel.code_bytes);
  Product product(args, kernel, rows, row_count);
  parallel_for(static_cast<size_t>(product.TaskCount()),
               [&](size_t task) { product.RunTask(static_cast<int64_t>(task)); });
  return Status::Ok();
}

}  // namespace naiad
