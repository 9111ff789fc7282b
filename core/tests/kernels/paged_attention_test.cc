#include "kernels/paged_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <complex>
#include <numeric>

#include "kernel_test_support.h"

namespace naiad::testing {
namespace {

struct Case {
  AttentionLayer layer;
  int32_t block_tokens = 16;
  int32_t rotary_pairs = 0;
  bool is_packed = false;  // Query, key and value come in one matrix.
};

// Sequences with their whole history of queries, keys and values, and a pool in which a test lets them grow in steps of
// any mix.
template <typename CacheElement>
class World {
 public:
  World(const Case& shape, const std::vector<int32_t>& lengths, uint32_t seed) : shape_(shape) {
    std::mt19937 random(seed);
    shape_.layer.scale = 1.0F / std::sqrt(static_cast<float>(shape.layer.head_size));
    for (const int32_t length : lengths) {
      const size_t tokens = static_cast<size_t>(length);
      histories_.push_back({RandomFloats(random, tokens * query_width()), RandomFloats(random, tokens * kv_width()),
                            RandomFloats(random, tokens * kv_width())});
      inputs_.push_back(histories_.back());
      Turn(random, tokens);
      columns_ = std::max(columns_, length / shape.block_tokens + 1);
    }
    num_blocks_ = columns_ * static_cast<int32_t>(lengths.size()) + 1;
    std::vector<int32_t> blocks(static_cast<size_t>(num_blocks_));
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random);
    table_.assign(blocks.begin(), blocks.begin() + columns_ * static_cast<int32_t>(lengths.size()));
    Forget();
  }

  // An empty pool again. What lies in slots that were not written must not matter.
  void Forget() {
    done_.assign(histories_.size(), 0);
    const int32_t row = CacheRowElements<CacheElement>(shape_.layer.head_size);
    const auto size = static_cast<size_t>(num_blocks_ * shape_.block_tokens * shape_.layer.num_kv_heads * row);
    key_cache_.assign(size, kNothing);
    value_cache_.assign(size, kNothing);
    outputs_.clear();
    for (const History& history : histories_) outputs_.emplace_back(history.query.size());
  }

  // Adds the next counts[i] tokens of sequence order[i], all in one call.
  Status Step(SimdLevel level, const ParallelFor& parallel_for, const std::vector<int32_t>& counts,
              const std::vector<size_t>& order) {
    std::vector<float> query, key, value, cos, sin;
    std::vector<int32_t> cu_seqlens = {0};
    std::vector<int32_t> past_lens, table;
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t s = order[i];
      const int32_t past = done_[s];
      past_lens.push_back(past);
      cu_seqlens.push_back(cu_seqlens.back() + counts[i]);
      table.insert(table.end(), table_.begin() + static_cast<int32_t>(s) * columns_,
                   table_.begin() + (static_cast<int32_t>(s) + 1) * columns_);
      const History& inputs = inputs_[s];
      for (int32_t t = past; t < past + counts[i]; ++t) {
        Append(query, inputs.query, t, query_width());
        Append(shape_.is_packed ? query : key, inputs.key, t, kv_width());
        Append(shape_.is_packed ? query : value, inputs.value, t, kv_width());
        Append(cos, inputs.cos, t, static_cast<size_t>(shape_.rotary_pairs));
        Append(sin, inputs.sin, t, static_cast<size_t>(shape_.rotary_pairs));
      }
    }
    std::vector<float> output(static_cast<size_t>(cu_seqlens.back()) * query_width(),
                              std::numeric_limits<float>::quiet_NaN());
    const PagedAttentionArgs<CacheElement> args{
        shape_.layer, query, key,      value,       key_cache_,          value_cache_, cu_seqlens,
        past_lens,    table, columns_, num_blocks_, shape_.block_tokens, output,       shape_.rotary_pairs,
        cos,          sin};
    if (Status status = PagedAttention(args, AttentionMathFor(level), parallel_for, &scratch_); !status.ok())
      return status;
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t s = order[i];
      std::copy(output.begin() + cu_seqlens[i] * static_cast<int64_t>(query_width()),
                output.begin() + cu_seqlens[i + 1] * static_cast<int64_t>(query_width()),
                outputs_[s].begin() + done_[s] * static_cast<int64_t>(query_width()));
      done_[s] += counts[i];
    }
    return Status::Ok();
  }

  [[nodiscard]] const std::vector<std::vector<float>>& outputs() const { return outputs_; }
  std::vector<int32_t>& table() { return table_; }
  Case& shape() { return shape_; }

  [[nodiscard]] double Error() const {
    const AttentionLayer& layer = shape_.layer;
    const size_t size = static_cast<size_t>(layer.head_size);
    double error = 0.0;
    for (size_t s = 0; s < histories_.size(); ++s) {
      for (int32_t t = 0; t < done_[s]; ++t) {
        for (int32_t head = 0; head < layer.num_heads; ++head) {
          const int32_t kv_head = head / (layer.num_heads / layer.num_kv_heads);
          std::vector<const float*> keys, values;
          for (int32_t j = layer.window_tokens < 0 ? 0 : std::max(0, t - layer.window_tokens + 1); j <= t; ++j) {
            const int32_t offset = (j * layer.num_kv_heads + kv_head) * layer.head_size;
            keys.push_back(histories_[s].key.data() + offset);
            values.push_back(histories_[s].value.data() + offset);
          }
          const size_t row = static_cast<size_t>(t * layer.num_heads + head) * size;
          const auto expected = ReferenceRow(layer, histories_[s].query.data() + row, keys, values);
          error = std::max(error, MaxError(std::span(outputs_[s]).subspan(row, size), expected));
        }
      }
    }
    return error;
  }

  // Makes every key and value one that 8 bits hold but for float rounding, so that Error() judges the arithmetic alone.
  void RoundHistoriesToEightBits() {
    const auto size = static_cast<size_t>(shape_.layer.head_size);
    for (History& history : histories_) {
      for (std::vector<float>* rows : {&history.key, &history.value}) {
        for (size_t at = 0; at < rows->size(); at += size) {
          const std::vector<float> rounded = ThroughEightBits(std::span(*rows).subspan(at, size));
          std::copy(rounded.begin(), rounded.end(), rows->begin() + static_cast<std::ptrdiff_t>(at));
        }
      }
    }
    inputs_ = histories_;
  }

  // Makes the values of a position infinite.
  void SpoilValue(size_t sequence, int32_t position) {
    for (std::vector<History>* histories : {&histories_, &inputs_}) {
      const auto begin = (*histories)[sequence].value.begin() + position * static_cast<int64_t>(kv_width());
      std::fill_n(begin, kv_width(), std::numeric_limits<float>::infinity());
    }
  }

 private:
  // Of slots that were not written: NaN, as a float or as the scale of an 8-bit row.
  static constexpr CacheElement kNothing =
      std::is_same_v<CacheElement, float> ? std::numeric_limits<CacheElement>::quiet_NaN() : CacheElement{0xFF};

  struct History {
    std::vector<float> query, key, value;
    std::vector<float> cos = {}, sin = {};  // [tokens, rotary_pairs]
  };

  // Gives the newest history angles, and turns its queries and keys by them.
  void Turn(std::mt19937& random, size_t tokens) {
    const auto pairs = static_cast<size_t>(shape_.rotary_pairs);
    for (size_t i = 0; i < tokens * pairs; ++i) {
      const double angle = std::uniform_real_distribution<double>(-3.0, 3.0)(random);
      inputs_.back().cos.push_back(static_cast<float>(std::cos(angle)));
      inputs_.back().sin.push_back(static_cast<float>(std::sin(angle)));
    }
    const auto head_size = static_cast<size_t>(shape_.layer.head_size);
    for (std::vector<float>* rows : {&histories_.back().query, &histories_.back().key}) {
      for (size_t head = 0; head < rows->size(); head += head_size) {
        const size_t token = head / (rows->size() / tokens);
        for (size_t i = 0; i < pairs; ++i) {
          float& first = (*rows)[head + i];
          float& second = (*rows)[head + i + pairs];
          const std::complex<double> turned =
              std::complex<double>(static_cast<double>(first), static_cast<double>(second)) *
              std::complex<double>(static_cast<double>(inputs_.back().cos[token * pairs + i]),
                                   static_cast<double>(inputs_.back().sin[token * pairs + i]));
          first = static_cast<float>(turned.real());
          second = static_cast<float>(turned.imag());
        }
      }
    }
  }

  [[nodiscard]] size_t query_width() const {
    return static_cast<size_t>(shape_.layer.num_heads * shape_.layer.head_size);
  }
  [[nodiscard]] size_t kv_width() const {
    return static_cast<size_t>(shape_.layer.num_kv_heads * shape_.layer.head_size);
  }

  static void Append(std::vector<float>& to, const std::vector<float>& from, int32_t token, size_t width) {
    if (from.empty()) return;
    const auto begin = from.begin() + token * static_cast<int64_t>(width);
    to.insert(to.end(), begin, begin + static_cast<int64_t>(width));
  }

  Case shape_;
  std::vector<History> histories_;  // What attention is computed over.
  std::vector<History> inputs_;     // What a call gets: without the turns.
  int32_t columns_ = 0;
  int32_t num_blocks_ = 0;
  std::vector<int32_t> table_, done_;
  std::vector<CacheElement> key_cache_, value_cache_;
  std::vector<std::vector<float>> outputs_;
  PagedAttentionScratch scratch_;
};

using PagedWorld = World<float>;

TEST(PagedAttentionTest, AgreesWithDoublePrecisionOverOddShapesAndMixedSteps) {
  const std::vector<Case> cases = {
      {{9, 3, 64, 1.0F, 0.0F, -1}, 16},
      {{4, 4, 32, 1.0F, 0.0F, -1}, 16},
      {{9, 1, 100, 1.0F, 0.0F, -1}, 8},
      {{5, 5, 33, 1.0F, 5.0F, -1}, 5},
      {{8, 1, 256, 1.0F, 30.0F, 7}, 16},
      {{7, 1, 80, 1.0F, 0.0F, 1}, 40},
      {{2, 1, 8, 1.0F, 0.0F, 16}, 64},
      {{66, 1, 16, 1.0F, 0.0F, 33}, 1},
      {{9, 3, 64, 1.0F, 0.0F, -1}, 16, 32, true},
      {{5, 5, 33, 1.0F, 0.0F, -1}, 5, 0, true},
      {{9, 1, 100, 1.0F, 0.0F, -1}, 8, 50, false},
      {{8, 1, 256, 1.0F, 30.0F, 7}, 16, 64, true},
      {{6, 2, 80, 1.0F, 0.0F, -1}, 16, 10, true},
      {{4, 4, 35, 1.0F, 0.0F, -1}, 16, 17, true},
  };
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      PagedWorld world(shape, {70, 33, 16}, 21);
      ASSERT_TRUE(world.Step(level, SerialFor, {17}, {0}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {1, 16, 33}, {0, 2, 1}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {0, 52}, {1, 0}).ok());
      EXPECT_LT(world.Error(), 1e-5) << shape.layer.num_heads << " heads of " << shape.layer.head_size;
    }
  }
}

// One token after the other, in chunks beside a neighbour, on many threads: always the bits of one long prefill.
template <typename CacheElement>
void ExpectSameBitsHoweverComputed() {
  const std::vector<Case> cases = {{{9, 3, 64, 1.0F, 0.0F, -1}, 16},
                                   {{4, 4, 20, 1.0F, 3.0F, 12}, 16},
                                   {{8, 1, 72, 1.0F, 0.0F, -1}, 48},
                                   {{9, 3, 64, 1.0F, 0.0F, -1}, 16, 32, true},
                                   {{7, 7, 33, 1.0F, 0.0F, -1}, 16, 3, true}};
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      World<CacheElement> world(shape, {60, 45}, 22);
      ASSERT_TRUE(world.Step(level, ThreadedFor, {60, 45}, {0, 1}).ok());
      const std::vector<std::vector<float>> prefilled = world.outputs();
      world.Forget();
      for (int i = 0; i < 60; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {1}, {0}).ok());
      for (int i = 0; i < 5; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {9}, {1}).ok());
      EXPECT_EQ(world.outputs(), prefilled);
      world.Forget();
      for (const int32_t count : {7, 1, 13, 24}) {
        ASSERT_TRUE(world.Step(level, ThreadedFor, {count, count}, {1, 0}).ok());
      }
      ASSERT_TRUE(world.Step(level, ThreadedFor, {15}, {0}).ok());
      EXPECT_EQ(world.outputs(), prefilled);
    }
  }
}

TEST(PagedAttentionTest, TokenGetsTheSameBitsDecodedPrefilledChunkedOrPacked) {
  ExpectSameBitsHoweverComputed<float>();
}

TEST(PagedAttentionTest, TokenGetsTheSameBitsOverAnEightBitCacheToo) { ExpectSameBitsHoweverComputed<uint8_t>(); }

// Histories of several chunks, which one thread takes one after the other in a prefill, and several threads share when
// a token is decoded alone. The windows begin and end in the midst of chunks.
template <typename CacheElement>
void ExpectSameBitsAcrossChunks() {
  const std::vector<Case> cases = {{{16, 1, 64, 1.0F, 0.0F, -1}, 16},
                                   {{16, 1, 20, 1.0F, 4.0F, 530}, 16},
                                   {{32, 2, 16, 1.0F, 0.0F, 500}, 5},
                                   {{3, 1, 64, 1.0F, 0.0F, -1}, 48}};
  const int32_t length = 2 * kChunkTokens + 90;
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      World<CacheElement> world(shape, {length, 40}, 28);
      world.RoundHistoriesToEightBits();
      ASSERT_TRUE(world.Step(level, SerialFor, {length, 40}, {0, 1}).ok());
      if (level == AvailableLevels().back()) {
        EXPECT_LT(world.Error(), 2e-5) << shape.layer.num_heads << " heads";
      }
      const std::vector<std::vector<float>> prefilled = world.outputs();
      world.Forget();
      ASSERT_TRUE(world.Step(level, ThreadedFor, {kChunkTokens - 2}, {0}).ok());
      for (int i = 0; i < 4; ++i) ASSERT_TRUE(world.Step(level, ThreadedFor, {1, 1}, {1, 0}).ok());
      ASSERT_TRUE(world.Step(level, ThreadedFor, {36, kChunkTokens + 80}, {1, 0}).ok());
      for (int i = 0; i < 8; ++i) ASSERT_TRUE(world.Step(level, ThreadedFor, {1}, {0}).ok());
      EXPECT_EQ(world.outputs(), prefilled) << shape.layer.num_heads << " heads of " << shape.layer.head_size;
    }
  }
}

TEST(PagedAttentionTest, TokenGetsTheSameBitsWhoeverSharesItsChunks) { ExpectSameBitsAcrossChunks<float>(); }

TEST(PagedAttentionTest, TokenGetsTheSameBitsWhoeverSharesItsChunksOverAnEightBitCacheToo) {
  ExpectSameBitsAcrossChunks<uint8_t>();
}

TEST(PagedAttentionTest, AgreesWithDoublePrecisionOverManyHeadSizesAndGroups) {
  for (const SimdLevel level : AvailableLevels()) {
    uint32_t seed = 40;
    for (const int32_t head_size : {32, 48, 64, 80, 96, 100, 128, 200, 256}) {
      for (const int32_t group : {1, 2, 3, 5, 7, 9}) {
        PagedWorld world({{group, 1, head_size, 1.0F, 0.0F, -1}, 16}, {38}, ++seed);
        ASSERT_TRUE(world.Step(level, SerialFor, {33}, {0}).ok());
        for (int i = 0; i < 5; ++i) ASSERT_TRUE(world.Step(level, SerialFor, {1}, {0}).ok());
        EXPECT_LT(world.Error(), 1e-5) << group << " heads of " << head_size;
      }
    }
  }
}

// 0 times infinity is no number, so a weight of 0 would show.
TEST(PagedAttentionTest, ValueThatIsNotFiniteShowsInAllRowsThatSeeItAndInNoOther) {
  constexpr int32_t kBad = kChunkTokens + 20;
  constexpr int32_t kWindow = 30;
  const AttentionLayer layer{4, 2, 24, 1.0F, 0.0F, kWindow};
  for (const SimdLevel level : AvailableLevels()) {
    PagedWorld world({layer, 16}, {kBad + 60}, 29);
    world.SpoilValue(0, kBad);
    ASSERT_TRUE(world.Step(level, ThreadedFor, {kBad + 60}, {0}).ok());
    const std::vector<float>& output = world.outputs()[0];
    const auto width = static_cast<size_t>(layer.num_heads * layer.head_size);
    for (size_t i = 0; i < output.size(); ++i) {
      const auto token = static_cast<int32_t>(i / width);
      ASSERT_EQ(std::isfinite(output[i]), token < kBad || token >= kBad + kWindow) << token;
    }
  }
}

// Head sizes 32 to 256, groups of 1 to 9, blocks of 1 to 40 positions.
TEST(PagedAttentionTest, EightBitCacheAgreesWithDoublePrecisionOverTheSameRoundedRows) {
  const std::vector<Case> cases = {
      {{9, 3, 64, 1.0F, 0.0F, -1}, 16}, {{4, 4, 32, 1.0F, 0.0F, -1}, 16},  {{9, 1, 100, 1.0F, 0.0F, -1}, 8},
      {{5, 5, 33, 1.0F, 5.0F, -1}, 5},  {{8, 1, 256, 1.0F, 30.0F, 7}, 16}, {{7, 1, 80, 1.0F, 0.0F, 1}, 40},
      {{4, 2, 96, 1.0F, 0.0F, 33}, 1},  {{2, 1, 7, 1.0F, 0.0F, -1}, 16},   {{6, 1, 47, 1.0F, 0.0F, 20}, 16}};
  for (const SimdLevel level : AvailableLevels()) {
    for (const Case& shape : cases) {
      World<uint8_t> world(shape, {70, 33, 16}, 25);
      world.RoundHistoriesToEightBits();
      ASSERT_TRUE(world.Step(level, SerialFor, {17}, {0}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {1, 16, 33}, {0, 2, 1}).ok());
      ASSERT_TRUE(world.Step(level, SerialFor, {0, 52}, {1, 0}).ok());
      EXPECT_LT(world.Error(), 2e-5) << shape.layer.num_heads << " heads of " << shape.layer.head_size;
    }
  }
}

// Keys and values of variance 1 lie within 4 or so, steps are 4 / 127 and errors half of that; averages are no worse.
TEST(PagedAttentionTest, RoundingToEightBitsMovesAnOutputByLittle) {
  World<uint8_t> world({{9, 3, 64, 1.0F, 0.0F, -1}, 16}, {70}, 26);
  ASSERT_TRUE(world.Step(AvailableLevels().back(), SerialFor, {70}, {0}).ok());
  EXPECT_LT(world.Error(), 0.05);
  EXPECT_GT(world.Error(), 1e-4);
}

TEST(PagedAttentionTest, EightBitRowsAreWrittenByManyThreads) {
  World<uint8_t> world({{8, 8, 64, 1.0F, 0.0F, 4}, 16}, {80, 90}, 27);
  world.RoundHistoriesToEightBits();
  ASSERT_TRUE(world.Step(AvailableLevels().back(), ThreadedFor, {80, 90}, {0, 1}).ok());
  EXPECT_LT(world.Error(), 2e-5);
}

// Past what one thread writes alone: the bits of small steps.
template <typename CacheElement>
void ExpectLargeRotatedStepsToHaveTheBitsOfSmallOnes() {
  for (const bool is_packed : {false, true}) {
    World<CacheElement> world({{8, 2, 64, 1.0F, 0.0F, -1}, 16, 16, is_packed}, {70, 90, 1}, 28);
    ASSERT_TRUE(world.Step(AvailableLevels().back(), ThreadedFor, {70, 0, 90, 1}, {0, 1, 1, 2}).ok());
    const std::vector<std::vector<float>> at_once = world.outputs();
    world.Forget();
    for (int i = 0; i < 70; ++i) ASSERT_TRUE(world.Step(AvailableLevels().back(), SerialFor, {1, 1}, {1, 0}).ok());
    ASSERT_TRUE(world.Step(AvailableLevels().back(), SerialFor, {20, 1}, {1, 2}).ok());
    EXPECT_EQ(world.outputs(), at_once);
  }
}

TEST(PagedAttentionTest, LargeRotatedStepsHaveTheBitsOfSmallOnes) {
  ExpectLargeRotatedStepsToHaveTheBitsOfSmallOnes<float>();
  ExpectLargeRotatedStepsToHaveTheBitsOfSmallOnes<uint8_t>();
}

TEST(PagedAttentionTest, AnglesThatDoNotFitAHeadAreRefused) {
  PagedWorld world({{2, 1, 8, 1.0F, 0.0F, -1}, 16}, {5}, 29);
  world.shape().rotary_pairs = 5;
  EXPECT_EQ(world.Step(SimdLevel::kScalar, SerialFor, {5}, {0}).message(),
            "cos and sin are 5 wide; a head has 8 elements");
  world.shape().rotary_pairs = 4;
  EXPECT_EQ(world.Step(SimdLevel::kScalar, SerialFor, {5}, {0}).message(), "cos has 0 elements; expected 20");
}

TEST(PagedAttentionTest, LargeStepsAreWrittenToTheCacheByManyThreads) {
  PagedWorld world({{8, 8, 64, 1.0F, 0.0F, 4}, 16}, {80, 90}, 23);
  ASSERT_TRUE(world.Step(SimdLevel::kScalar, ThreadedFor, {80, 90}, {0, 1}).ok());
  EXPECT_LT(world.Error(), 1e-5);
}

TEST(PagedAttentionTest, BlocksOutsideThePoolAreRefusedBeforeAnythingIsWritten) {
  PagedWorld world({{2, 1, 8, 1.0F, 0.0F, -1}, 16}, {20, 20}, 24);
  const std::vector<int32_t> table = world.table();
  for (const int32_t block : {-1, 5}) {
    world.table() = table;
    world.table()[3] = block;
    EXPECT_EQ(world.Step(SimdLevel::kScalar, SerialFor, {20, 20}, {0, 1}).message(),
              "block_table names block " + std::to_string(block) + " for sequence 1; the pool has 5");
  }
  world.table()[3] = -1;  // Not needed by the first 16 tokens.
  EXPECT_TRUE(world.Step(SimdLevel::kScalar, SerialFor, {20, 16}, {0, 1}).ok());
}

TEST(PagedAttentionTest, TableWithTooFewColumnsIsRefused) {
  const AttentionLayer layer{1, 1, 1, 1.0F, 0.0F, -1};
  std::vector<float> row(3), cache(4);
  const std::vector<int32_t> cu_seqlens = {0, 3};
  const std::vector<int32_t> past_lens = {2};
  const std::vector<int32_t> table = {0, 1};
  std::vector<float> output(3);
  const PagedAttentionArgs<float> args{layer,     row,   row, row, cache, cache, cu_seqlens,
                                       past_lens, table, 2,   2,   2,     output};
  PagedAttentionScratch scratch;
  EXPECT_EQ(PagedAttention(args, AttentionMathFor(SimdLevel::kScalar), SerialFor, &scratch).message(),
            "block_table has 2 columns; sequence 0 needs 3");
}

}  // namespace
}  // namespace naiad::testing
