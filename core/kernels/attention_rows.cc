#include "kernels/attention_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace naiad {
namespace {

// Positions whose keys, or values, are taken for all rows before the next ones, so that they stay in the first level of
// the cache.
constexpr int32_t kSegmentTokens = 64;
// Loops may ask for this many rows behind those that they should.
constexpr int32_t kOverhang = 15;

// One chunk for all rows of a pass, in floats.
class ChunkPass {
 public:
  ChunkPass(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows, int32_t chunk,
            std::span<RowPart> parts)
      : math_(math), layer_(layer), rows_(rows), parts_(parts), first_position_(chunk * kChunkTokens) {
    seen_ = {kChunkTokens, 0};
    for (size_t r = 0; r < rows.size(); ++r) {
      ranges_[r] = RangeInChunk(rows[r], first_position_);
      if (!ranges_[r].empty()) {
        seen_ = {std::min(seen_.begin, ranges_[r].begin), std::max(seen_.end, ranges_[r].end)};
      }
      parts[r].softmax = {};
      std::fill_n(parts[r].sums, layer.head_size, 0.0F);
    }
  }

  void Run(const LocateRows<float>& locate, std::span<const float* const> next) {
    if (seen_.empty()) return;
    Locate(locate, next);
    const int32_t first_segment = seen_.begin - seen_.begin % kSegmentTokens;
    for (int32_t at = first_segment; at < seen_.end; at += kSegmentTokens) {
      ScoreSegment(SeenOf(at));
    }
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (ranges_[r].empty()) continue;
      parts_[r].softmax =
          math_.weights(ScoresAt(r, ranges_[r].begin), ranges_[r].end - ranges_[r].begin, layer_.scale, layer_.softcap);
    }
    for (int32_t at = first_segment; at < seen_.end; at += kSegmentTokens) {
      for (size_t r = 0; r < rows_.size(); r += kMaxStripRows) AccumulateStrip(SeenOf(at), r, StripRows(r));
    }
  }

 private:
  [[nodiscard]] ChunkRange SeenOf(int32_t segment) const { return Overlap(seen_, {segment, segment + kSegmentTokens}); }
  [[nodiscard]] size_t StripRows(size_t row) const { return std::min<size_t>(kMaxStripRows, rows_.size() - row); }
  // Into stream_, for a position of seen_.
  const float** KeyAt(int32_t position) { return stream_.data() + (position - seen_.begin); }
  const float** ValueAt(int32_t position) { return KeyAt(position) + (seen_.end - seen_.begin); }
  float* ScoresAt(size_t row, int32_t position) { return scores_.data() + row * kScoreStride + position; }

  // Lists the rows in the order in which they are used, so that those kRowsAhead further on can be asked for.
  void Locate(const LocateRows<float>& locate, std::span<const float* const> next) {
    const int32_t count = seen_.end - seen_.begin;
    locate(first_position_ + seen_.begin, count, stream_.data(), stream_.data() + count);
    const auto end = std::copy(next.begin(), next.end(), stream_.begin() + 2 * ptrdiff_t{count});
    std::fill(end, stream_.begin() + 2 * ptrdiff_t{count} + kRowsAhead + kOverhang, *(end - 1));
  }

  // Rows of a strip may see less than the whole range; their other scores are not used.
  void ScoreSegment(ChunkRange range) {
    for (size_t r = 0; r < rows_.size(); r += kMaxStripRows) {
      const size_t strip = StripRows(r);
      std::array<const float*, kMaxStripRows> queries{};
      ChunkRange needed = {range.end, range.begin};
      for (size_t i = 0; i < strip; ++i) {
        queries[i] = rows_[r + i].query;
        const ChunkRange own = Overlap(range, ranges_[r + i]);
        if (!own.empty()) needed = {std::min(needed.begin, own.begin), std::max(needed.end, own.end)};
      }
      if (needed.empty()) continue;
      math_.scores(queries.data(), static_cast<int32_t>(strip), KeyAt(needed.begin),
                   r == 0 ? KeyAt(needed.begin) + kRowsAhead : nullptr, needed.end - needed.begin, layer_.head_size,
                   ScoresAt(r, needed.begin));
    }
  }

  // A weight must not meet a value that its row does not see, as 0 times infinity is no number. So what all rows see is
  // taken together, and what is before and behind that alone.
  void AccumulateStrip(ChunkRange range, size_t row, size_t strip) {
    ChunkRange common = range;
    for (size_t r = row; r < row + strip; ++r) common = Overlap(common, ranges_[r]);
    if (common.empty()) common = {range.end, range.end};
    for (size_t r = row; r < row + strip; ++r) {
      Accumulate(Overlap({range.begin, common.begin}, ranges_[r]), r, 1);
    }
    Accumulate(common, row, strip);
    for (size_t r = row; r < row + strip; ++r) Accumulate(Overlap({common.end, range.end}, ranges_[r]), r, 1);
  }

  void Accumulate(ChunkRange range, size_t row, size_t strip) {
    if (range.empty()) return;
    std::array<float*, kMaxStripRows> sums{};
    for (size_t i = 0; i < strip; ++i) sums[i] = parts_[row + i].sums;
    math_.accumulate(ScoresAt(row, range.begin), static_cast<int32_t>(strip), ValueAt(range.begin),
                     row == 0 ? ValueAt(range.begin) + kRowsAhead : nullptr, range.end - range.begin, layer_.head_size,
                     sums.data());
  }

  const AttentionMath& math_;
  const AttentionLayer& layer_;
  std::span<const AttentionRow> rows_;
  std::span<RowPart> parts_;
  int32_t first_position_ = 0;
  ChunkRange seen_;                                 // By any row.
  std::array<ChunkRange, kMaxRowsPerPass> ranges_;  // What each row sees.
  // Keys of seen_, values of seen_, the keys that come next.
  std::array<const float*, 2 * kChunkTokens + kRowsAhead + kOverhang> stream_;
  alignas(64) std::array<float, static_cast<size_t>(kMaxRowsPerPass) * kScoreStride> scores_;
};

}  // namespace

template <>
PassRows<float> PrepareRows<float>(const AttentionMath& /*math*/, const AttentionLayer& /*layer*/,
                                   std::span<const AttentionRow> rows) {
  return rows;
}

template <>
void AttendChunk<float>(const AttentionMath& math, const AttentionLayer& layer, const PassRows<float>& rows,
                        int32_t chunk, const LocateRows<float>& locate, std::span<const float* const> next,
                        std::span<RowPart> parts) {
  ChunkPass(math, layer, rows, chunk, parts).Run(locate, next);
}

void MergePart(const RowPart& later, int32_t head_size, RowPart* into) {
  if (later.softmax.sum == 0.0F) return;
  if (into->softmax.sum == 0.0F) {
    into->softmax = later.softmax;
    std::copy_n(later.sums, head_size, into->sums);
    return;
  }
  const float max = std::max(into->softmax.max, later.softmax.max);
  const float factor = std::exp(into->softmax.max - max);
  const float later_factor = std::exp(later.softmax.max - max);
  into->softmax = {max, into->softmax.sum * factor + later.softmax.sum * later_factor};
  for (int32_t d = 0; d < head_size; ++d) into->sums[d] = into->sums[d] * factor + later.sums[d] * later_factor;
}

void Normalise(int32_t head_size, RowPart* part) {
  const float inverse = 1.0F / part->softmax.sum;
  for (int32_t d = 0; d < head_size; ++d) part->sums[d] *= inverse;
}

template <typename Element>
void AttendRows(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                const LocateRows<Element>& locate, std::span<const Element* const> next) {
  std::array<RowPart, kMaxRowsPerPass> parts;
  std::array<RowPart, kMaxRowsPerPass> later;
  int32_t first_position = rows.front().first_position;
  int32_t last_position = rows.front().last_position;
  for (size_t r = 0; r < rows.size(); ++r) {
    parts[r].sums = rows[r].output;
    first_position = std::min(first_position, rows[r].first_position);
    last_position = std::max(last_position, rows[r].last_position);
  }
  int32_t chunk = first_position / kChunkTokens;
  const PassRows<Element> prepared = PrepareRows<Element>(math, layer, rows);
  RowsAhead<Element> ahead;
  const auto keys_after = [&](int32_t done) {
    const int32_t first = (done + 1) * kChunkTokens;
    return first > last_position ? next : ahead.Locate(locate, first, last_position);
  };
  AttendChunk<Element>(math, layer, prepared, chunk, locate, keys_after(chunk), std::span(parts).first(rows.size()));
  if (++chunk <= last_position / kChunkTokens) {
    static thread_local std::vector<float> sums;  // Grows to what the layers of this process need.
    const size_t size = rows.size() * static_cast<size_t>(layer.head_size);
    if (sums.size() < size) sums.resize(size);
    for (size_t r = 0; r < rows.size(); ++r) later[r].sums = sums.data() + r * static_cast<size_t>(layer.head_size);
  }
  for (; chunk <= last_position / kChunkTokens; ++chunk) {
    AttendChunk<Element>(math, layer, prepared, chunk, locate, keys_after(chunk), std::span(later).first(rows.size()));
    for (size_t r = 0; r < rows.size(); ++r) MergePart(later[r], layer.head_size, &parts[r]);
  }
  for (size_t r = 0; r < rows.size(); ++r) Normalise(layer.head_size, &parts[r]);
}

template void AttendRows(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>,
                         const LocateRows<float>&, std::span<const float* const>);
template void AttendRows(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>,
                         const LocateRows<uint8_t>&, std::span<const uint8_t* const>);

}  // namespace naiad
