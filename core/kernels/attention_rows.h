// Attention of a few query rows over one sequence's keys and values: what paged and packed attention share.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
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

// Keys and values of `count` consecutive positions of one KV head; each position is `stride` elements after the one
// before. Element: float, or uint8_t for 8-bit rows (quantised_row.h).
template <typename Element>
struct KeyValueTile {
  const Element* keys = nullptr;
  const Element* values = nullptr;
  ptrdiff_t stride = 0;
  int32_t first_position = 0;
  int32_t count = 0;  // 1 .. kMaxTileTokens
};

inline constexpr int32_t kMaxRowsPerPass = 64;

namespace attention_internal {

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

// Asks for the rows of a tile that is needed soon. Blocks of the cache lie anywhere, so that the processor cannot guess
// what comes after the end of one. Into the second level: the first has too few open requests for so many lines.
template <typename Element>
void Prefetch(const Element* rows, ptrdiff_t stride, int32_t count, int32_t elements) {
  constexpr ptrdiff_t kLineBytes = 64;
  const auto row_bytes = static_cast<ptrdiff_t>(sizeof(Element)) * elements;
  for (int32_t j = 0; j < count; ++j) {
    const char* const row = reinterpret_cast<const char*>(rows + j * stride);
    for (ptrdiff_t offset = 0; offset < row_bytes; offset += kLineBytes)
      __builtin_prefetch(row + offset, /*rw=*/0, /*locality=*/2);
  }
}

// One tile for up to kMaxStripRows rows that see the same part of it: positions begin .. end-1, counted from its start.
template <typename Element>
void AttendStrip(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                 std::span<SoftmaxState> states, const KeyValueTile<Element>& tile, int32_t begin, int32_t end) {
  const int32_t strip = static_cast<int32_t>(rows.size());
  const ptrdiff_t offset = begin * tile.stride;
  std::array<const float*, kMaxStripRows> queries{};
  std::array<float*, kMaxStripRows> outputs{};
  std::array<float, kMaxStripRows> corrections{};
  alignas(64) std::array<float, kMaxStripRows * kMaxTileTokens> scores;
  for (size_t r = 0; r < rows.size(); ++r) {
    queries[r] = rows[r].query;
    outputs[r] = rows[r].output;
  }
  ScoresOf<Element>(math)(queries.data(), strip, tile.keys + offset, tile.stride, end - begin, layer.head_size,
                          scores.data());
  for (size_t r = 0; r < rows.size(); ++r) {
    corrections[r] =
        math.weights(scores.data() + r * kMaxTileTokens, end - begin, layer.scale, layer.softcap, &states[r]);
  }
  AccumulateOf<Element>(math)(scores.data(), corrections.data(), strip, tile.values + offset, tile.stride, end - begin,
                              layer.head_size, outputs.data());
}

}  // namespace attention_internal

// Computes all rows in one pass over the tiles. `tile_of(position)` gives the tile that holds a position; tiles must be
// cut at the same absolute positions in every call, or rows lose their batch invariance. Positions that no row sees are
// never read. At most kMaxRowsPerPass rows.
template <typename TileOf>
void AttendRows(const AttentionMath& math, const AttentionLayer& layer, std::span<const AttentionRow> rows,
                const TileOf& tile_of) {
  std::array<SoftmaxState, kMaxRowsPerPass> states{};
  int32_t position = rows.front().first_position;
  int32_t last_position = rows.front().last_position;
  for (const AttentionRow& row : rows) {
    position = std::min(position, row.first_position);
    last_position = std::max(last_position, row.last_position);
    std::fill_n(row.output, layer.head_size, 0.0F);
  }
  auto next_tile = tile_of(position);
  while (position <= last_position) {
    const auto tile = next_tile;
    if (const int32_t next_position = tile.first_position + tile.count; next_position <= last_position) {
      next_tile = tile_of(next_position);
      attention_internal::Prefetch(next_tile.keys, next_tile.stride, next_tile.count, layer.head_size);
      attention_internal::Prefetch(next_tile.values, next_tile.stride, next_tile.count, layer.head_size);
    }
    const auto begin_of = [&](const AttentionRow& row) {
      return std::max(row.first_position - tile.first_position, 0);
    };
    const auto end_of = [&](const AttentionRow& row) {
      return std::min(row.last_position - tile.first_position + 1, tile.count);
    };
    for (size_t r = 0; r < rows.size();) {
      const int32_t begin = begin_of(rows[r]);
      const int32_t end = end_of(rows[r]);
      size_t strip = 1;
      while (strip < kMaxStripRows && r + strip < rows.size() && begin_of(rows[r + strip]) == begin &&
             end_of(rows[r + strip]) == end) {
        ++strip;
      }
      if (begin < end) {
        attention_internal::AttendStrip(math, layer, rows.subspan(r, strip), std::span(states).subspan(r, strip), tile,
                                        begin, end);
      }
      r += strip;
    }
    position = tile.first_position + tile.count;
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    const float inverse = 1.0F / states[r].sum;
    for (int32_t d = 0; d < layer.head_size; ++d) rows[r].output[d] *= inverse;
  }
}

}  // namespace naiad
