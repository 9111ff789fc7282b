// Attention over 8-bit rows: chunks of keys and values are packed once for all rows of a pass, then taken strip by
// strip.
#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "kernels/attention_rows.h"
#include "kernels/exp_constants.h"

namespace naiad {
namespace {

struct alignas(64) Line {
  std::array<uint8_t, 64> bytes;
};

// Lines whose content is unspecified; they grow to what the layers of this process need.
uint8_t* Reserve(size_t bytes, std::vector<Line>* lines) {
  const size_t count = (bytes + sizeof(Line) - 1) / sizeof(Line);
  if (lines->size() < count) lines->resize(count);
  return lines->front().bytes.data();
}

// What one thread works on.
struct Scratch {
  std::vector<Line> queries, keys, values;
  std::array<float, kMaxRowsPerPass> factors;
  alignas(64) std::array<float, kChunkTokens> key_scales;
  alignas(64) std::array<float, kChunkTokens> value_scales;
  alignas(64) std::array<float, static_cast<size_t>(kMaxInt8StripRows) * kScoreStride> scores;
  alignas(64) std::array<uint8_t, static_cast<size_t>(kMaxInt8StripRows) * kChunkTokens> codes;
  alignas(64) std::array<float, static_cast<size_t>(kMaxInt8StripRows) * kWeightGroups> weight_scales;
  std::array<const uint8_t*, kChunkTokens> key_rows;
  std::array<const uint8_t*, kChunkTokens> value_rows;
};

Scratch& ScratchOfThisThread() {
  static thread_local Scratch scratch;
  return scratch;
}

ChunkRange Hull(ChunkRange a, ChunkRange b) {
  if (a.empty()) return b;
  return b.empty() ? a : ChunkRange{std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

// The range to whole groups of `tokens` positions.
ChunkRange Widened(ChunkRange range, int32_t tokens) {
  return {range.begin / tokens * tokens, (range.end + tokens - 1) / tokens * tokens};
}

// One chunk for all rows of a pass.
class Int8ChunkPass {
 public:
  Int8ChunkPass(const Int8AttentionMath& math, const AttentionLayer& layer, const Int8Rows& rows, int32_t chunk,
                std::span<RowPart> parts)
      : math_(math),
        layer_(layer),
        rows_(rows),
        parts_(parts),
        first_position_(chunk * kChunkTokens),
        scratch_(ScratchOfThisThread()) {
    const size_t bytes = static_cast<size_t>(kChunkTokens) * kMaxPackedBytes * PackedHeadSize(layer.head_size);
    keys_ = {Reserve(bytes, &scratch_.keys), scratch_.key_scales.data()};
    values_ = {Reserve(bytes, &scratch_.values), scratch_.value_scales.data()};
  }

  void Run(const LocateRows<uint8_t>& locate, std::span<const uint8_t* const> next) {
    upcoming_ = {next.data(), next.data() + next.size()};
    ChunkRange seen;
    for (const AttentionRow& row : rows_.rows) seen = Hull(seen, RangeInChunk(row, first_position_));
    if (!seen.empty()) Pack(seen, locate);
    for (size_t r = 0; r < rows_.rows.size(); r += kMaxInt8StripRows) {
      AttendStrip(r, std::min<size_t>(kMaxInt8StripRows, rows_.rows.size() - r));
    }
    AskForRows(&upcoming_, static_cast<int32_t>(next.size()), layer_.head_size);
  }

 private:
  // The ends of `seen` stand for the positions beside it in their groups of keys.
  void Pack(ChunkRange seen, const LocateRows<uint8_t>& locate) {
    const ChunkRange packed = Widened(seen, kKeyGroupTokens);
    const uint8_t** const keys = scratch_.key_rows.data();
    const uint8_t** const values = scratch_.value_rows.data();
    const ptrdiff_t before = seen.begin - packed.begin;
    const ptrdiff_t until = seen.end - packed.begin;
    locate(first_position_ + seen.begin, seen.end - seen.begin, keys + before, values + before);
    for (const uint8_t** const rows : {keys, values}) {
      std::fill(rows, rows + before, rows[before]);
      std::fill(rows + until, rows + (packed.end - packed.begin), rows[until - 1]);
    }
    math_.pack_keys(keys, packed, layer_.head_size, keys_, &upcoming_);
    math_.pack_values(values, packed, layer_.head_size, values_, &upcoming_);
  }

  [[nodiscard]] WeightCodes WeightsOf(size_t row_of_strip) const {
    return {scratch_.codes.data() + row_of_strip * kChunkTokens,
            scratch_.weight_scales.data() + row_of_strip * kWeightGroups};
  }

  void AttendStrip(size_t first, size_t count) {
    std::array<float*, kMaxInt8StripRows> sums{};
    ChunkRange seen;
    for (size_t i = 0; i < count; ++i) {
      sums[i] = parts_[first + i].sums;
      seen = Hull(seen, RangeInChunk(rows_.rows[first + i], first_position_));
    }
    if (!seen.empty()) {
      const PackedQueries queries{rows_.queries + static_cast<ptrdiff_t>(first) * rows_.query_stride,
                                  rows_.query_stride, rows_.factors + first, static_cast<int32_t>(count)};
      math_.scores(queries, keys_, Widened(seen, kKeyGroupTokens), layer_.head_size, scratch_.scores.data(),
                   &upcoming_);
    }
    for (size_t i = 0; i < count; ++i) {
      const ChunkRange range = RangeInChunk(rows_.rows[first + i], first_position_);
      const WeightCodes weights = WeightsOf(i);
      parts_[first + i].softmax = {};
      if (range.empty()) {
        std::fill_n(weights.codes, kChunkTokens, uint8_t{0});
        std::fill_n(weights.scales, kWeightGroups, 0.0F);
      } else {
        parts_[first + i].softmax = math_.weights(scratch_.scores.data() + i * kScoreStride, range,
                                                  scratch_.value_scales.data(), layer_.softcap, weights);
      }
    }
    const ChunkRange groups{seen.begin / kWeightGroupTokens, (seen.end + kWeightGroupTokens - 1) / kWeightGroupTokens};
    math_.accumulate(WeightsOf(0), static_cast<int32_t>(count), values_, groups, layer_.head_size, sums.data(),
                     &upcoming_);
  }

  const Int8AttentionMath& math_;
  const AttentionLayer& layer_;
  const Int8Rows& rows_;
  std::span<RowPart> parts_;
  int32_t first_position_ = 0;
  Scratch& scratch_;
  PackedRows keys_, values_;
  RowStream upcoming_;
};

}  // namespace

template <>
PassRows<uint8_t> PrepareRows<uint8_t>(const AttentionMath& math, const AttentionLayer& layer,
                                       std::span<const AttentionRow> rows) {
  Scratch& scratch = ScratchOfThisThread();
  const ptrdiff_t stride = kMaxPackedBytes * PackedHeadSize(layer.head_size) + kPackedQueryExtraBytes;
  uint8_t* const queries = Reserve(rows.size() * static_cast<size_t>(stride), &scratch.queries);
  const float factor = layer.softcap > 0.0F ? layer.scale : layer.scale * kLog2OfE;
  for (size_t r = 0; r < rows.size(); ++r) {
    scratch.factors[r] =
        factor * math.int8.pack_query(rows[r].query, layer.head_size, queries + static_cast<ptrdiff_t>(r) * stride);
  }
  return {rows, queries, stride, scratch.factors.data()};
}

template <>
void AttendChunk<uint8_t>(const AttentionMath& math, const AttentionLayer& layer, const PassRows<uint8_t>& rows,
                          int32_t chunk, const LocateRows<uint8_t>& locate, std::span<const uint8_t* const> next,
                          std::span<RowPart> parts) {
  Int8ChunkPass(math.int8, layer, rows, chunk, parts).Run(locate, next);
}

}  // namespace naiad
