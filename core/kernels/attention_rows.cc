#include "kernels/attention_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace naiad {
namespace {

// Positions whose keys, or values, are taken for all rows before the next ones, so that they stay in the first level of
// the cache, while those of the next segment are fetched.
constexpr int32_t kSegmentTokens = 64;

// Positions begin .. end-1 of a chunk, counted from its start.
struct Range {
  int32_t begin = 0;
  int32_t end = 0;
  [[nodiscard]] bool empty() const { return begin >= end; }
};

Range Overlap(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

// Asks for rows that are needed soon. Blocks of the cache lie anywhere, so that the processor cannot guess what comes
// after the end of one. Into the second level: the first has too few open requests for so many lines.
template <typename Element>
void Prefetch(const Element* const* rows, int32_t count, int32_t elements) {
  constexpr ptrdiff_t kLineBytes = 64;
  const auto row_bytes = static_cast<ptrdiff_t>(sizeof(Element)) * elements;
  for (int32_t j = 0; j < count; ++j) {
    const char* const row = reinterpret_cast<const char*>(rows[j]);
    for (ptrdiff_t offset = 0; offset < row_bytes; offset += kLineBytes)
      __builtin_prefetch(row + offset, /*rw=*/0, /*locality=*/2);
  }
}

// The inner loops for one kind of rows.
template <typename Element>
auto ScoresOf(const AttentionMath& math) {
  if constexpr (std::is_same_v<Element, float>) return math.scores;
  if constexpr (std::is_same_v<Element, uint8_t>) return math.scores_int8;
}
template <typename Element>
auto AccumulateOf(const AttentionMath& math) {
  if constexpr (std::is_same_v<Element, float>) return math.accumulate;
  if constexpr (std::is_same_v<Element, uint8_t>) return math.accumulate_int8;
}

// One chunk for all rows of a pass.
template <typename Element>
class ChunkPass {
 public:
  ChunkPass(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows, int32_t chunk,
            std::span<RowPart> parts)
      : math_(math), layer_(layer), rows_(rows), parts_(parts), first_position_(chunk * kChunkTokens) {
    seen_ = {kChunkTokens, 0};
    for (size_t r = 0; r < rows.size(); ++r) {
      ranges_[r] = Overlap({rows[r].first_position - first_position_, rows[r].last_position + 1 - first_position_},
                           {0, kChunkTokens});
      if (!ranges_[r].empty()) {
        seen_ = {std::min(seen_.begin, ranges_[r].begin), std::max(seen_.end, ranges_[r].end)};
      }
      parts[r].softmax = {};
      std::fill_n(parts[r].sums, layer.head_size, 0.0F);
    }
  }

  void Run(const LocateRows<Element>& locate) {
    if (seen_.empty()) return;
    locate(first_position_ + seen_.begin, seen_.end - seen_.begin, keys_.data() + seen_.begin,
           values_.data() + seen_.begin);
    const int32_t first_segment = seen_.begin - seen_.begin % kSegmentTokens;
    for (int32_t at = first_segment; at < seen_.end; at += kSegmentTokens) {
      const bool last = at + kSegmentTokens >= seen_.end;
      last ? PrefetchSegment(values_, first_segment) : PrefetchSegment(keys_, at + kSegmentTokens);
      ScoreSegment(SeenOf(at));
    }
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (ranges_[r].empty()) continue;
      parts_[r].softmax =
          math_.weights(ScoresAt(r, ranges_[r].begin), ranges_[r].end - ranges_[r].begin, layer_.scale, layer_.softcap);
    }
    for (int32_t at = first_segment; at < seen_.end; at += kSegmentTokens) {
      PrefetchSegment(values_, at + kSegmentTokens);
      for (size_t r = 0; r < rows_.size(); r += kMaxStripRows) AccumulateStrip(SeenOf(at), r, StripRows(r));
    }
  }

 private:
  [[nodiscard]] Range SeenOf(int32_t segment) const { return Overlap(seen_, {segment, segment + kSegmentTokens}); }
  [[nodiscard]] size_t StripRows(size_t row) const { return std::min<size_t>(kMaxStripRows, rows_.size() - row); }
  float* ScoresAt(size_t row, int32_t position) { return scores_.data() + row * kScoreStride + position; }

  void PrefetchSegment(const std::array<const Element*, kChunkTokens>& rows, int32_t segment) const {
    const Range range = SeenOf(segment);
    if (!range.empty()) Prefetch(rows.data() + range.begin, range.end - range.begin, layer_.head_size);
  }

  // Rows of a strip may see less than the whole range; their other scores are not used.
  void ScoreSegment(Range range) {
    for (size_t r = 0; r < rows_.size(); r += kMaxStripRows) {
      const size_t strip = StripRows(r);
      std::array<const float*, kMaxStripRows> queries{};
      Range needed = {range.end, range.begin};
      for (size_t i = 0; i < strip; ++i) {
        queries[i] = rows_[r + i].query;
        const Range own = Overlap(range, ranges_[r + i]);
        if (!own.empty()) needed = {std::min(needed.begin, own.begin), std::max(needed.end, own.end)};
      }
      if (needed.empty()) continue;
      ScoresOf<Element>(math_)(queries.data(), static_cast<int32_t>(strip), keys_.data() + needed.begin,
                               needed.end - needed.begin, layer_.head_size, ScoresAt(r, needed.begin));
    }
  }

  // A weight must not meet a value that its row does not see, as 0 times infinity is no number. So what all rows see is
  // taken together, and what is before and behind that alone.
  void AccumulateStrip(Range range, size_t row, size_t strip) {
    Range common = range;
    for (size_t r = row; r < row + strip; ++r) common = Overlap(common, ranges_[r]);
    if (common.empty()) common = {range.end, range.end};
    for (size_t r = row; r < row + strip; ++r) {
      Accumulate(Overlap({range.begin, common.begin}, ranges_[r]), r, 1);
    }
    Accumulate(common, row, strip);
    for (size_t r = row; r < row + strip; ++r) Accumulate(Overlap({common.end, range.end}, ranges_[r]), r, 1);
  }

  void Accumulate(Range range, size_t row, size_t strip) {
    if (range.empty()) return;
    std::array<float*, kMaxStripRows> sums{};
    for (size_t i = 0; i < strip; ++i) sums[i] = parts_[row + i].sums;
    AccumulateOf<Element>(math_)(ScoresAt(row, range.begin), static_cast<int32_t>(strip), values_.data() + range.begin,
                                 range.end - range.begin, layer_.head_size, sums.data());
  }

  const AttentionMath& math_;
  const AttentionLayer& layer_;
  std::span<const AttentionRow> rows_;
  std::span<RowPart> parts_;
  int32_t first_position_ = 0;
  Range seen_;                                     // By any row.
  std::array<Range, kMaxRowsPerPass> ranges_;      // What each row sees.
  std::array<const Element*, kChunkTokens> keys_;  // Of seen_ alone, as are the values.
  std::array<const Element*, kChunkTokens> values_;
  alignas(64) std::array<float, static_cast<size_t>(kMaxRowsPerPass) * kScoreStride> scores_;
};

}  // namespace

template <typename Element>
void AttendChunk(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                 int32_t chunk, const LocateRows<Element>& locate, std::span<RowPart> parts) {
  ChunkPass<Element>(math, layer, rows, chunk, parts).Run(locate);
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
                const LocateRows<Element>& locate) {
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
  AttendChunk(math, layer, rows, chunk, locate, std::span(parts).first(rows.size()));
  if (++chunk <= last_position / kChunkTokens) {
    static thread_local std::vector<float> sums;  // Grows to what the layers of this process need.
    const size_t size = rows.size() * static_cast<size_t>(layer.head_size);
    if (sums.size() < size) sums.resize(size);
    for (size_t r = 0; r < rows.size(); ++r) later[r].sums = sums.data() + r * static_cast<size_t>(layer.head_size);
  }
  for (; chunk <= last_position / kChunkTokens; ++chunk) {
    AttendChunk(math, layer, rows, chunk, locate, std::span(later).first(rows.size()));
    for (size_t r = 0; r < rows.size(); ++r) MergePart(later[r], layer.head_size, &parts[r]);
  }
  for (size_t r = 0; r < rows.size(); ++r) Normalise(layer.head_size, &parts[r]);
}

template void AttendChunk(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>, int32_t,
                          const LocateRows<float>&, std::span<RowPart>);
template void AttendChunk(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>, int32_t,
                          const LocateRows<uint8_t>&, std::span<RowPart>);
template void AttendRows(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>,
                         const LocateRows<float>&);
template void AttendRows(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>,
                         const LocateRows<uint8_t>&);

}  // namespace naiad
