// Attention of a few query rows over one sequence's keys and values: what paged and packed attention share.
//
// A history is cut into chunks of kChunkTokens positions, at the same positions always. Each chunk has a softmax of its
// own, and the chunks' results are merged in their order. So a row has the same bits whether one thread takes all its
// chunks or several share them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>

#include "kernels/attention_math.h"

namespace naiad {

// Facts of an attention layer.
struct AttentionLayer {
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;  // Divides num_heads; query head h reads KV head h / (num_heads / num_kv_heads).
  int32_t head_size = 0;
  float scale = 1.0F;          // Multiplies each dot product.
  float softcap = 0.0F;        // > 0: scores become softcap * tanh(score / softcap).
  int32_t window_tokens = -1;  // -1 = none; else see the operator.
};

// One query head of one token. It sees positions first_position .. last_position (at least one).
struct AttentionRow {
  const float* query = nullptr;  // [head_size]
  float* output = nullptr;       // [head_size]
  int32_t first_position = 0;
  int32_t last_position = 0;
};

inline constexpr int32_t kMaxRowsPerPass = 48;
// A key or value is asked for while the one this many before it is used: what memory takes to answer, and some.
inline constexpr int32_t kRowsAhead = 64;

// Positions of a chunk, counted from its start, that are in both ranges.
inline ChunkRange Overlap(ChunkRange a, ChunkRange b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

// The positions of the chunk from `first_position` on that a row sees.
inline ChunkRange RangeInChunk(const AttentionRow& row, int32_t first_position) {
  return Overlap({row.first_position - first_position, row.last_position + 1 - first_position}, {0, kChunkTokens});
}

// Sets keys[i] and values[i] for i < count to where the rows of position first_position + i lie. Element: float, or
// uint8_t for 8-bit rows (quantised_row.h).
template <typename Element>
using LocateRows =
    std::function<void(int32_t first_position, int32_t count, const Element** keys, const Element** values)>;

// Room for the rows that are needed after those of a call: the first keys, or in 8 bits, where a chunk's rows are all
// taken before anything is computed, all keys and values of a chunk.
template <typename Element>
class RowsAhead {
 public:
  // Those of the positions first .. last, or as many of the first ones.
  std::span<const Element* const> Locate(const LocateRows<Element>& locate, int32_t first, int32_t last) {
    const int32_t room = kIsInt8 ? kChunkTokens - first % kChunkTokens : kRowsAhead;
    const int32_t count = std::min(room, last - first + 1);
    locate(first, count, rows_.data(), rows_.data() + count);
    return std::span<const Element* const>(rows_).first(static_cast<size_t>(kIsInt8 ? 2 * count : count));
  }

 private:
  static constexpr bool kIsInt8 = std::is_same_v<Element, uint8_t>;
  std::array<const Element*, 2 * static_cast<size_t>(kIsInt8 ? kChunkTokens : kRowsAhead)> rows_;
};

// What a row has from some of its chunks: the softmax, and the weighted sum of values, not divided by softmax.sum yet.
struct RowPart {
  float* sums = nullptr;  // [head_size]
  SoftmaxState softmax;
};

// Rows of one pass over 8-bit keys and values, whose queries were packed.
struct Int8Rows {
  std::span<const AttentionRow> rows;
  const uint8_t* queries = nullptr;  // Of row r from r * query_stride on.
  ptrdiff_t query_stride = 0;
  const float* factors = nullptr;  // Scales of the queries, times what makes scores exponents of two.
};

// The rows of a pass as loops over keys and values of one kind take them.
template <typename Element>
using PassRows = std::conditional_t<std::is_same_v<Element, float>, std::span<const AttentionRow>, Int8Rows>;

// Packs what is to be packed, into memory of this thread which its next call reuses. At most kMaxRowsPerPass rows.
template <typename Element>
PassRows<Element> PrepareRows(const AttentionMath& math, const AttentionLayer& layer,
                              std::span<const AttentionRow> rows);

// Computes what each row has from one chunk, positions chunk * kChunkTokens and on. `parts` has one entry a row, whose
// `sums` tells where to write; rows that see nothing of the chunk get zeros. Positions that no row sees are never read.
// `next` are RowsAhead of what is computed after this, which are fetched meanwhile.
template <typename Element>
void AttendChunk(const AttentionMath& math, const AttentionLayer& layer, const PassRows<Element>& rows, int32_t chunk,
                 const LocateRows<Element>& locate, std::span<const Element* const> next, std::span<RowPart> parts);

template <>
PassRows<float> PrepareRows<float>(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>);
template <>
PassRows<uint8_t> PrepareRows<uint8_t>(const AttentionMath&, const AttentionLayer&, std::span<const AttentionRow>);
template <>
void AttendChunk<float>(const AttentionMath&, const AttentionLayer&, const PassRows<float>&, int32_t,
                        const LocateRows<float>&, std::span<const float* const>, std::span<RowPart>);
template <>
void AttendChunk<uint8_t>(const AttentionMath&, const AttentionLayer&, const PassRows<uint8_t>&, int32_t,
                          const LocateRows<uint8_t>&, std::span<const uint8_t* const>, std::span<RowPart>);

// Adds the part of a later chunk to `into`.
void MergePart(const RowPart& later, int32_t head_size, RowPart* into);

// Turns the parts of all chunks, merged, into the outputs.
void Normalise(int32_t head_size, RowPart* part);

// Computes whole rows: all chunks, one after the other. `next`: see AttendChunk. At most kMaxRowsPerPass rows.
template <typename Element>
void AttendRows(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                const LocateRows<Element>& locate, std::span<const Element* const> next);

}  // namespace naiad
