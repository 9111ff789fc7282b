// Sequences in a pool that grow step by step, for the tests of paged attention.
#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "kernel_test_support.h"
#include "kernels/paged_attention.h"

namespace naiad::testing {

// How far outputs over an 8-bit cache may lie from those of exact arithmetic over the same 8-bit rows, of values of
// variance 1: by what rounds the weights to 8 bits.
inline constexpr double kWeightRounding = 0.03;

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

  // Makes every query, key and value one that 8 bits hold but for float rounding, so that Error() judges the arithmetic
  // alone.
  void RoundHistoriesToEightBits() {
    const auto size = static_cast<size_t>(shape_.layer.head_size);
    for (History& history : histories_) {
      for (std::vector<float>* rows : {&history.query, &history.key, &history.value}) {
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

}  // namespace naiad::testing
