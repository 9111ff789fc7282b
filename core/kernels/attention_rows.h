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

// Sets keys[i] and values[i] for i < count to where the rows of position first_position + i lie. Element: float, or
// uint8_t for 8-bit rows (quantised_row.h).
template <typename Element>
using LocateRows =
    std::function<void(int32_t first_position, int32_t count, const Element** keys, const Element** values)>;

// Room for the first keys of what comes next; the values are not used.
template <typename Element>
struct RowsAhead {
  std::array<const Element*, kRowsAhead> keys;
  std::array<const Element*, kRowsAhead> values;

  // The keys of positions first .. last, or as many as there is room for.
  std::span<const Element* const> Locate(const LocateRows<Element>& locate, int32_t first, int32_t last) {
    const int32_t count = std::min(kRowsAhead, last - first + 1);
    locate(first, count, keys.data(), values.data());
    return std::span<const Element* const>(keys).first(static_cast<size_t>(count));
  }
};

// What a row has from some of its chunks: the softmax, and the weighted sum of values, not divided by softmax.sum yet.
struct RowPart {
  float* sums = nullptr;  // [head_size]
  SoftmaxState softmax;
};

// Computes what each row has from one chunk, positions chunk * kChunkTokens and on. `parts` has one entry a row, whose
// `sums` tells where to write; rows that see nothing of the chunk get zeros. Positions that no row sees are never read.
// `next` are the first keys, at most kRowsAhead, of what is computed after this, which are fetched meanwhile. At most
// kMaxRowsPerPass rows.
template <typename Element>
void AttendChunk(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                 int32_t chunk, const LocateRows<Element>& locate, std::span<const Element* const> next,
                 std::span<RowPart> parts);

// Adds the part of a later chunk to `into`.
void MergePart(const RowPart& later, int32_t head_size, RowPart* into);

// Turns the parts of all chunks, merged, into the outputs.
void Normalise(int32_t head_size, RowPart* part);

// Computes whole rows: all chunks, one after the other. `next`: see AttendChunk. At most kMaxRowsPerPass rows.
template <typename Element>
void AttendRows(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                const LocateRows<Element>& locate, std::span<const Element* const> next);

}  // namespace naiad
