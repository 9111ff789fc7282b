#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "kernel_test_support.h"
#include "kernels/attention_math.h"

namespace naiad::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename Element>
struct alignas(64) Line {
  std::array<Element, 64 / sizeof(Element)> elements;
};

// Memory that begins on a line of the cache.
template <typename Element>
class Lines {
 public:
  explicit Lines(size_t count) : lines_(count * sizeof(Element) / 64 + 1) {}
  Element* data() { return lines_.front().elements.data(); }

 private:
  std::vector<Line<Element>> lines_;
};

// A strip of queries and the keys and values of one chunk. Nothing lies behind the last row.
struct Inputs {
  int32_t head_size;
  std::vector<float> queries;
  std::vector<uint8_t> keys, values;

  Inputs(std::mt19937& random, int32_t size)
      : head_size(size),
        queries(RandomFloats(random, kMaxInt8StripRows * static_cast<size_t>(size))),
        keys(Rows(random)),
        values(Rows(random)) {}

  [[nodiscard]] size_t row_bytes() const { return static_cast<size_t>(head_size + kRowScaleBytes); }

  std::vector<uint8_t> Rows(std::mt19937& random) const {
    std::vector<uint8_t> rows(kChunkTokens * row_bytes());
    for (size_t j = 0; j < kChunkTokens; ++j) {
      std::vector<float> row = RandomFloats(random, static_cast<size_t>(head_size));
      if (j % 37 == 5) std::fill(row.begin(), row.end(), 0.0F);
      AttentionMathFor(SimdLevel::kScalar).quantise_row(row.data(), head_size, rows.data() + j * row_bytes());
    }
    return rows;
  }

  // The rows of the positions `at`.
  [[nodiscard]] std::vector<const uint8_t*> Pointers(const std::vector<uint8_t>& rows, ChunkRange at) const {
    std::vector<const uint8_t*> pointers;
    for (int32_t j = at.begin; j < at.end; ++j) {
      pointers.push_back(rows.data() + static_cast<size_t>(j) * row_bytes());
    }
    return pointers;
  }
};

// What one level makes of a strip that sees `ranges`, as exact as bits are.
struct Results {
  std::vector<float> scores;  // What each row sees, one row after the other.
  std::vector<float> maxima, sums, scales, outputs;
  std::vector<uint8_t> codes;
  bool operator==(const Results&) const = default;
};

Results Attend(SimdLevel level, const Inputs& inputs, const std::vector<ChunkRange>& ranges, float softcap) {
  const Int8AttentionMath& math = AttentionMathFor(level).int8;
  const int32_t head_size = inputs.head_size;
  const auto rows = static_cast<int32_t>(ranges.size());
  const size_t packed_bytes = static_cast<size_t>(kMaxPackedBytes * PackedHeadSize(head_size));
  ChunkRange seen = {kChunkTokens, 0};
  for (const ChunkRange& range : ranges) seen = {std::min(seen.begin, range.begin), std::max(seen.end, range.end)};
  const ChunkRange packed = {seen.begin / kKeyGroupTokens * kKeyGroupTokens,
                             (seen.end + kKeyGroupTokens - 1) / kKeyGroupTokens * kKeyGroupTokens};

  Lines<uint8_t> key_bytes(kChunkTokens * packed_bytes), value_bytes(kChunkTokens * packed_bytes);
  Lines<float> key_scales(kChunkTokens), value_scales(kChunkTokens);
  const PackedRows keys{key_bytes.data(), key_scales.data()};
  const PackedRows values{value_bytes.data(), value_scales.data()};
  const std::vector<const uint8_t*> key_rows = inputs.Pointers(inputs.keys, packed);
  const std::vector<const uint8_t*> value_rows = inputs.Pointers(inputs.values, packed);
  RowStream upcoming{value_rows.data(), value_rows.data() + value_rows.size()};
  math.pack_keys(key_rows.data(), packed, head_size, keys, &upcoming);
  math.pack_values(value_rows.data(), packed, head_size, values, &upcoming);

  const size_t stride = packed_bytes + kPackedQueryExtraBytes;
  Lines<uint8_t> queries(kMaxInt8StripRows * stride);
  std::array<float, kMaxInt8StripRows> factors{};
  for (size_t r = 0; r < ranges.size(); ++r) {
    factors[r] = 0.3F * math.pack_query(inputs.queries.data() + r * static_cast<size_t>(head_size), head_size,
                                        queries.data() + r * stride);
  }
  Lines<float> scores(kMaxInt8StripRows * kScoreStride);
  math.scores({queries.data(), static_cast<ptrdiff_t>(stride), factors.data(), rows}, keys, packed, head_size,
              scores.data(), &upcoming);

  Results results;
  Lines<uint8_t> codes(kMaxInt8StripRows * kChunkTokens);
  Lines<float> scales(kMaxInt8StripRows * kWeightGroups);
  for (size_t r = 0; r < ranges.size(); ++r) {
    float* const row = scores.data() + r * kScoreStride;
    results.scores.insert(results.scores.end(), row + ranges[r].begin, row + ranges[r].end);
    const SoftmaxState state = math.weights(row, ranges[r], value_scales.data(), softcap,
                                            {codes.data() + r * kChunkTokens, scales.data() + r * kWeightGroups});
    results.maxima.push_back(state.max);
    results.sums.push_back(state.sum);
  }
  results.codes.assign(codes.data(), codes.data() + ranges.size() * kChunkTokens);
  results.scales.assign(scales.data(), scales.data() + ranges.size() * kWeightGroups);
  results.outputs.assign(ranges.size() * static_cast<size_t>(head_size), 7.0F);
  std::array<float*, kMaxInt8StripRows> outputs{};
  for (size_t r = 0; r < ranges.size(); ++r) {
    outputs[r] = results.outputs.data() + r * static_cast<size_t>(head_size);
  }
  math.accumulate({codes.data(), scales.data()}, rows, values,
                  {packed.begin / kWeightGroupTokens, (packed.end + kWeightGroupTokens - 1) / kWeightGroupTokens},
                  head_size, outputs.data(), &upcoming);
  return results;
}

// Ranges of `rows` rows: each sees one position more than the one before, as tokens do.
std::vector<ChunkRange> Ranges(int32_t begin, int32_t end, int32_t rows) {
  std::vector<ChunkRange> ranges;
  for (int32_t r = 0; r < rows; ++r) ranges.push_back({begin + r % 2, std::min(end + r, kChunkTokens)});
  return ranges;
}

TEST(AttentionInt8Test, EveryLevelGivesTheBitsOfTheReferenceForAllStripsAndHeadSizes) {
  std::mt19937 random(5);
  for (const int32_t head_size : {1, 7, 16, 20, 32, 33, 48, 64, 72, 80, 96, 100, 128, 131, 200, 256}) {
    const Inputs inputs(random, head_size);
    for (const auto& [begin, end] :
         {std::pair{0, 1}, {0, 16}, {0, 17}, {0, 70}, {15, 33}, {16, 60}, {100, 140}, {0, 230}, {30, 256}}) {
      for (int32_t rows = 1; rows <= kMaxInt8StripRows; ++rows) {
        for (const float softcap : {0.0F, 4.0F}) {
          const std::vector<ChunkRange> ranges = Ranges(begin, std::max(end, begin + 2), rows);
          const Results expected = Attend(SimdLevel::kScalar, inputs, ranges, softcap);
          for (const SimdLevel level : AvailableLevels()) {
            ASSERT_TRUE(Attend(level, inputs, ranges, softcap) == expected)
                << LevelName(level) << ": " << rows << " rows of " << head_size << ", " << begin << " to " << end;
          }
        }
      }
    }
  }
}

TEST(AttentionInt8Test, RowsOfAStripDoNotChangeEachOthersBits) {
  std::mt19937 random(6);
  for (const int32_t head_size : {20, 64, 100}) {
    const Inputs inputs(random, head_size);
    for (const SimdLevel level : AvailableLevels()) {
      const std::vector<ChunkRange> alone = {{3, 50}};
      const Results expected = Attend(level, inputs, alone, 0.0F);
      for (int32_t rows = 2; rows <= kMaxInt8StripRows; ++rows) {
        std::vector<ChunkRange> ranges = alone;
        for (int32_t r = 1; r < rows; ++r) ranges.push_back({r * 20, 100 + r * 10});
        const Results together = Attend(level, inputs, ranges, 0.0F);
        const auto size = static_cast<std::ptrdiff_t>(head_size);
        EXPECT_EQ(std::vector(together.outputs.begin(), together.outputs.begin() + size), expected.outputs);
        EXPECT_EQ(together.sums.front(), expected.sums.front());
      }
    }
  }
}

// Of products of one row that sees `range`.
struct Weighed {
  SoftmaxState softmax;
  std::array<uint8_t, kChunkTokens> codes{};
  std::array<float, kWeightGroups> scales{};

  Weighed(SimdLevel level, std::vector<float> scores, ChunkRange range, const std::vector<float>& value_scales) {
    scores.resize(kScoreStride);
    Lines<uint8_t> aligned(kChunkTokens);
    softmax = AttentionMathFor(level).int8.weights(scores.data(), range, value_scales.data(), 0.0F,
                                                   {aligned.data(), scales.data()});
    std::copy_n(aligned.data(), kChunkTokens, codes.begin());
  }
  [[nodiscard]] double Product(size_t j) const {
    return static_cast<double>(codes[j]) * static_cast<double>(scales[j / kWeightGroupTokens]);
  }
};

TEST(AttentionInt8Test, EveryProductIsWithinHalfAStepOfTheLargestOfItsGroup) {
  std::mt19937 random(7);
  for (const SimdLevel level : AvailableLevels()) {
    for (const ChunkRange range : {ChunkRange{0, 256}, {5, 77}, {200, 201}}) {
      std::vector<float> scores = RandomFloats(random, kChunkTokens);
      for (float& score : scores) score *= 4.0F;
      std::vector<float> value_scales = RandomFloats(random, kChunkTokens);
      for (float& scale : value_scales) scale = std::abs(scale);
      const Weighed weighed(level, scores, range, value_scales);
      const float max = *std::max_element(scores.begin() + range.begin, scores.begin() + range.end);
      EXPECT_FLOAT_EQ(weighed.softmax.max, max * std::log(2.0F));
      std::array<double, kChunkTokens> products{};
      double sum = 0.0;
      for (auto j = static_cast<size_t>(range.begin); j < static_cast<size_t>(range.end); ++j) {
        const double weight = std::exp2(static_cast<double>(scores[j]) - static_cast<double>(max));
        sum += weight;
        products[j] = weight * static_cast<double>(value_scales[j]);
      }
      EXPECT_NEAR(static_cast<double>(weighed.softmax.sum), sum, 1e-5 * sum);
      for (size_t j = 0; j < kChunkTokens; ++j) {
        const auto group = products.begin() + static_cast<ptrdiff_t>(j / kWeightGroupTokens * kWeightGroupTokens);
        const double largest = *std::max_element(group, group + kWeightGroupTokens);
        ASSERT_NEAR(weighed.Product(j), products[j], largest * (0.5 / 255.0 + 1e-5)) << j;
      }
    }
  }
}

TEST(AttentionInt8Test, WhatIsNoNumberShowsInItsRangeAndOnlyThere) {
  for (const SimdLevel level : AvailableLevels()) {
    std::vector<float> value_scales(kChunkTokens, 1.0F);
    value_scales[40] = kNan;
    const std::vector<float> scores(kChunkTokens, 0.0F);
    for (const int32_t begin : {0, 41}) {
      const Weighed weighed(level, scores, {begin, 60}, value_scales);
      EXPECT_EQ(std::isnan(weighed.scales[40 / kWeightGroupTokens]), begin == 0);
      EXPECT_FLOAT_EQ(weighed.softmax.sum, static_cast<float>(60 - begin));
      EXPECT_EQ(weighed.codes[60], 0);
    }
    std::vector<float> bad_scores = scores;
    bad_scores[40] = kNan;
    const std::vector<float> ones(kChunkTokens, 1.0F);
    EXPECT_TRUE(std::isnan(Weighed(level, bad_scores, {0, 60}, ones).softmax.sum));
    EXPECT_FLOAT_EQ(Weighed(level, bad_scores, {0, 40}, ones).softmax.sum, 40.0F);
  }
}

TEST(AttentionInt8Test, ValuesOfZeroAndScoresFarApartStayFinite) {
  for (const SimdLevel level : AvailableLevels()) {
    std::vector<float> scores(kChunkTokens, -1e30F);
    scores[100] = 0.0F;
    const Weighed zeros(level, scores, {0, kChunkTokens}, std::vector<float>(kChunkTokens, 0.0F));
    const Weighed far(level, scores, {0, kChunkTokens}, std::vector<float>(kChunkTokens, 1.0F));
    EXPECT_EQ(far.softmax.sum, 1.0F);
    for (size_t j = 0; j < kChunkTokens; ++j) {
      ASSERT_EQ(zeros.Product(j), 0.0);
      ASSERT_NEAR(far.Product(j), j == 100 ? 1.0 : 0.0, 1e-6);
    }
  }
}

TEST(AttentionInt8Test, QueryThatIsNotFiniteGetsAScaleThatIsNoNumber) {
  for (const SimdLevel level : AvailableLevels()) {
    std::vector<float> query(19, 1.0F);
    query[18] = std::numeric_limits<float>::infinity();
    Lines<uint8_t> packed(static_cast<size_t>(kMaxPackedBytes * PackedHeadSize(19) + kPackedQueryExtraBytes));
    EXPECT_TRUE(std::isnan(AttentionMathFor(level).int8.pack_query(query.data(), 19, packed.data())));
  }
}

}  // namespace
}  // namespace naiad::testing
