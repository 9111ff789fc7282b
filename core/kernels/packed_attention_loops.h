// The loops behind PackedAttentionMath over vectors of any instruction set. Only for the units that define one.
//
// Keys are transposed once for all rows, so that scores of many keys are summed beside each other and no sum goes
// across a vector. `Simd` has a name without linkage in each unit, so the units share no code that the linker could
// merge.
#pragma once

#include <array>
#include <limits>
#include <utility>

#include "kernels/packed_attention_math.h"
#include "kernels/silu_constants.h"
#include "kernels/unroll.h"

namespace naiad {

// Simd: Vector; kLanes; kRows and kTileVectors, as many sums as registers hold together; Zero, Set, Load, Store,
// LoadFirst and StoreFirst (of `count` lanes), KeepFirst (others become -infinity), Add, Sub, Mul, MulAdd, Max, MaxOf,
// SumOf, Exp (of numbers up to 0), Transpose4 (of 4 x 4 floats).
template <typename Simd>
class PackedHeadLoops {
 public:
  static size_t ScratchFloats(int32_t tokens, int32_t head_size) {
    const auto width = static_cast<size_t>(Padded(tokens));
    return width * static_cast<size_t>(head_size) + Simd::kRows * (width + static_cast<size_t>(head_size));
  }

  static void Attend(const PackedHead& head, float* scratch) {
    PackedHeadLoops loops(head, scratch);
    loops.TransposeKeys();
    for (int32_t row = head.first_row; row < head.end_row; row += Simd::kRows) {
      kForRows[static_cast<size_t>(head.end_row - row < Simd::kRows ? head.end_row - row - 1 : Simd::kRows - 1)](loops,
                                                                                                                 row);
    }
  }

 private:
  using Vector = typename Simd::Vector;

  PackedHeadLoops(const PackedHead& head, float* scratch)
      : head_(head),
        width_(Padded(head.tokens)),
        keys_(scratch),
        scores_(keys_ + ptrdiff_t{width_} * head.head_size),
        queries_(scores_ + ptrdiff_t{Simd::kRows} * width_) {}

  static int32_t Padded(int32_t tokens) { return (tokens + Simd::kLanes - 1) / Simd::kLanes * Simd::kLanes; }

  // keys_[d][j]; zeros behind the last token.
  void TransposeKeys() {
    const int32_t tokens = head_.tokens - head_.tokens % 4;
    const int32_t size = head_.head_size - head_.head_size % 4;
    for (int32_t j = 0; j < tokens; j += 4) {
      const float* const from = head_.key + j * head_.key_stride;
      for (int32_t d = 0; d < size; d += 4) {
        Simd::Transpose4(from + d, head_.key_stride, keys_ + ptrdiff_t{d} * width_ + j, width_);
      }
      for (int32_t d = size; d < head_.head_size; ++d) {
        for (int32_t i = 0; i < 4; ++i) keys_[ptrdiff_t{d} * width_ + j + i] = from[i * head_.key_stride + d];
      }
    }
    for (int32_t j = tokens; j < width_; ++j) {
      const float* const from = head_.key + j * head_.key_stride;
      for (int32_t d = 0; d < head_.head_size; ++d) {
        keys_[ptrdiff_t{d} * width_ + j] = j < head_.tokens ? from[d] : 0.0F;
      }
    }
  }

  template <int kRows>
  static void AttendRows(PackedHeadLoops& loops, int32_t first_row) {
    const PackedHead& head = loops.head_;
    for (int32_t r = 0; r < kRows; ++r) {
      const float* const query = head.query + (first_row + r) * head.query_stride;
      for (int32_t d = 0; d < head.head_size; ++d) loops.queries_[r * head.head_size + d] = query[d] * head.scale;
    }
    constexpr int32_t kTile = Simd::kTileVectors * Simd::kLanes;
    int32_t j = 0;
    for (; j + kTile <= loops.width_; j += kTile) loops.template Scores<kRows, Simd::kTileVectors>(j);
    for (; j < loops.width_; j += Simd::kLanes) loops.template Scores<kRows, 1>(j);
    float inverses[kRows];
    for (int32_t r = 0; r < kRows; ++r) inverses[r] = 1.0F / loops.Weights(r);
    loops.template Outputs<kRows>(first_row, inverses);
  }

  // scores_[r][j] for the keys from j on.
  template <int kRows, int kVectors>
  [[gnu::always_inline]] void Scores(int32_t j) {
    Vector sums[kRows * kVectors];
    Unroll<kRows * kVectors>([&](auto i) { sums[i] = Simd::Zero(); });
    const float* keys = keys_ + j;
    for (int32_t d = 0; d < head_.head_size; ++d, keys += width_) {
      Vector key[kVectors];
      Unroll<kVectors>([&](auto v) { key[v] = Simd::Load(keys + v * Simd::kLanes); });
      Unroll<kRows>([&](auto r) {
        const Vector query = Simd::Set(queries_[r * head_.head_size + d]);
        Unroll<kVectors>([&](auto v) { sums[r * kVectors + v] = Simd::MulAdd(query, key[v], sums[r * kVectors + v]); });
      });
    }
    Unroll<kRows>([&](auto r) {
      Unroll<kVectors>(
          [&](auto v) { Simd::Store(scores_ + r * width_ + j + v * Simd::kLanes, sums[r * kVectors + v]); });
    });
  }

  // Turns the scores of a row into exp(score - largest score); returns their sum.
  float Weights(int32_t r) {
    float* const scores = scores_ + ptrdiff_t{r} * width_;
    const int32_t last = width_ - Simd::kLanes;
    const Vector tail = Simd::KeepFirst(Simd::Load(scores + last), head_.tokens - last);
    Simd::Store(scores + last, tail);
    Vector largest = tail;
    for (int32_t j = 0; j < last; j += Simd::kLanes) largest = Simd::Max(largest, Simd::Load(scores + j));
    const Vector max = Simd::Set(Simd::MaxOf(largest));
    Vector sum = Simd::Zero();
    for (int32_t j = 0; j < width_; j += Simd::kLanes) {
      const Vector weight = Simd::Exp(Simd::Sub(Simd::Load(scores + j), max));
      Simd::Store(scores + j, weight);
      sum = Simd::Add(sum, weight);
    }
    return Simd::SumOf(sum);
  }

  template <int kRows>
  [[gnu::always_inline]] void Outputs(int32_t first_row, const float* inverses) {
    constexpr int32_t kTile = Simd::kTileVectors * Simd::kLanes;
    int32_t d = 0;
    for (; d + kTile <= head_.head_size; d += kTile) OutputTile<kRows, Simd::kTileVectors>(first_row, d, inverses);
    if constexpr (Simd::kTileVectors > 2) {
      for (; d + 2 * Simd::kLanes <= head_.head_size; d += 2 * Simd::kLanes) {
        OutputTile<kRows, 2>(first_row, d, inverses);
      }
    }
    for (; d + Simd::kLanes <= head_.head_size; d += Simd::kLanes) OutputTile<kRows, 1>(first_row, d, inverses);
    if (d < head_.head_size) OutputTile<kRows, 0>(first_row, d, inverses);
  }

  // Elements from d on of the rows' outputs; 0 vectors stand for what is left behind the last whole one.
  template <int kRows, int kVectors>
  [[gnu::always_inline]] void OutputTile(int32_t first_row, int32_t d, const float* inverses) {
    constexpr int kSums = kVectors > 0 ? kVectors : 1;
    const int32_t rest = head_.head_size - d;
    Vector sums[kRows * kSums];
    Unroll<kRows * kSums>([&](auto i) { sums[i] = Simd::Zero(); });
    const float* values = head_.value + d;
    for (int32_t j = 0; j < head_.tokens; ++j, values += head_.value_stride) {
      Vector value[kSums];
      Unroll<kSums>([&](auto v) {
        value[v] = kVectors > 0 ? Simd::Load(values + v * Simd::kLanes) : Simd::LoadFirst(values, rest);
      });
      Unroll<kRows>([&](auto r) {
        const Vector weight = Simd::Set(scores_[r * width_ + j]);
        Unroll<kSums>([&](auto v) { sums[r * kSums + v] = Simd::MulAdd(weight, value[v], sums[r * kSums + v]); });
      });
    }
    Unroll<kRows>([&](auto r) {
      float* const output = head_.output + (first_row + r) * head_.output_stride + d;
      Unroll<kSums>([&](auto v) {
        const Vector normalised = Simd::Mul(sums[r * kSums + v], Simd::Set(inverses[r]));
        kVectors > 0 ? Simd::Store(output + v * Simd::kLanes, normalised) : Simd::StoreFirst(output, normalised, rest);
      });
    });
  }

  static constexpr auto kForRows = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    return std::array{&AttendRows<kIndex + 1>...};
  }(std::make_integer_sequence<int, Simd::kRows>{});

  const PackedHead& head_;
  const int32_t width_;   // Of a row of keys_ and of scores_.
  float* const keys_;     // [head_size, width_]
  float* const scores_;   // [kRows, width_]
  float* const queries_;  // [kRows, head_size], times the scale
};

}  // namespace naiad
