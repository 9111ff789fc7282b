// Prints how fast paged attention is for steps of decoding and prefill, and what share of the machine's limits that is:
// of its memory, as every key and value is read, and of its arithmetic: of float multiply-adds, or over an 8-bit cache
// of VNNI.
//
//   attention_benchmark [THREADS [LEVEL [HEADS KV_HEADS HEAD_SIZE]]]
//
// 2 threads, the best level and the layers of the `chat` model unless told otherwise.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "kernels/paged_attention.h"
#include "machine_limits.h"
#include "spinning_team.h"

namespace naiad {
namespace {

// A step of `sequences` that have `past` tokens each and get `tokens` more.
struct Load {
  const char* name;
  int32_t sequences;
  int32_t past;
  int32_t tokens;
};
constexpr Load kLoads[] = {
    {"decode", 1, 64, 1},    {"decode", 1, 512, 1},   {"decode", 1, 2000, 1},  {"decode", 8, 64, 1},
    {"decode", 8, 256, 1},   {"decode", 8, 512, 1},   {"decode", 8, 2000, 1},  {"decode", 32, 64, 1},
    {"decode", 32, 192, 1},  {"decode", 32, 512, 1},  {"decode", 32, 2000, 1}, {"decode", 64, 64, 1},
    {"decode", 64, 512, 1},  {"decode", 64, 2000, 1}, {"prefill", 1, 0, 64},   {"prefill", 1, 0, 512},
    {"prefill", 1, 0, 2000}, {"prefill", 8, 0, 64},   {"chunk", 1, 1500, 64},  {"chunk", 1, 1500, 256},
};
constexpr int32_t kBlockTokens = 16;
constexpr double kSecondsEach = 0.2;
// More caches than the processor's own hold, used in turns, as the layers of a model are.
constexpr int64_t kCacheBytes = int64_t{96} << 20;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Pools of as many layers as it takes, and the inputs of one step. Blocks lie in a random order, as in a used pool.
template <typename Element>
class Step {
 public:
  Step(const AttentionLayer& layer, const Load& load) : layer_(layer), load_(load) {
    std::mt19937 random(1);
    columns_ = (load.past + load.tokens + kBlockTokens - 1) / kBlockTokens;
    num_blocks_ = columns_ * load.sequences;
    table_.resize(static_cast<size_t>(num_blocks_));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), random);
    pool_ = int64_t{num_blocks_} * kBlockTokens * layer.num_kv_heads * CacheRowElements<Element>(layer.head_size);
    layers_ = std::max<int64_t>(1, kCacheBytes / (2 * pool_ * static_cast<int64_t>(sizeof(Element))));
    FillCaches(random);
    for (int32_t s = 0; s <= load.sequences; ++s) cu_seqlens_.push_back(s * load.tokens);
    past_lens_.assign(static_cast<size_t>(load.sequences), load.past);
    const auto tokens = static_cast<size_t>(cu_seqlens_.back());
    query_ = Normal(random, tokens * static_cast<size_t>(layer.num_heads * layer.head_size));
    key_ = Normal(random, tokens * static_cast<size_t>(layer.num_kv_heads * layer.head_size));
    output_.resize(query_.size());
  }

  // Seconds of one layer, the best third of all.
  double Measure(const AttentionMath& math, const ParallelFor& parallel_for) {
    std::vector<double> times;
    const double end = Seconds() + kSecondsEach;
    for (int64_t i = 0; Seconds() < end || times.size() < 3; i = (i + 1) % layers_) {
      const auto pool = [&](int64_t which) {
        return std::span(caches_).subspan(static_cast<size_t>(which * pool_), static_cast<size_t>(pool_));
      };
      const PagedAttentionArgs<Element> args{layer_,          query_,       key_,       key_,   pool(2 * i),
                                             pool(2 * i + 1), cu_seqlens_,  past_lens_, table_, columns_,
                                             num_blocks_,     kBlockTokens, output_};
      const double begin = Seconds();
      if (!PagedAttention(args, math, parallel_for, &scratch_).ok()) std::abort();
      times.push_back(Seconds() - begin);
    }
    const auto third = times.begin() + static_cast<ptrdiff_t>(times.size() / 3);
    std::nth_element(times.begin(), third, times.end());
    return *third;
  }

  // Of keys and values that are seen, each read once.
  [[nodiscard]] double Bytes() const {
    const double row = sizeof(Element) * static_cast<double>(CacheRowElements<Element>(layer_.head_size));
    return 2.0 * row * load_.sequences * layer_.num_kv_heads * (load_.past + load_.tokens);
  }
  // Of scores and outputs.
  [[nodiscard]] double Operations() const {
    const double seen = load_.tokens * (load_.past + 0.5 * (load_.tokens + 1));
    return 4.0 * layer_.head_size * layer_.num_heads * load_.sequences * seen;
  }

 private:
  // The same few rows over and over.
  void FillCaches(std::mt19937& random) {
    constexpr size_t kRows = 997;
    const auto head_size = static_cast<size_t>(layer_.head_size);
    const auto row_elements = static_cast<size_t>(CacheRowElements<Element>(layer_.head_size));
    const std::vector<float> floats = Normal(random, kRows * head_size);
    std::vector<Element> rows(kRows * row_elements);
    for (size_t i = 0; i < kRows; ++i) WriteRow(floats.data() + i * head_size, rows.data() + i * row_elements);
    caches_.resize(static_cast<size_t>(2 * layers_ * pool_));
    for (size_t at = 0; at < caches_.size(); at += rows.size()) {
      const size_t count = std::min(rows.size(), caches_.size() - at);
      std::copy_n(rows.begin(), count, caches_.begin() + static_cast<ptrdiff_t>(at));
    }
  }
  void WriteRow(const float* from, float* to) const { std::copy_n(from, layer_.head_size, to); }
  void WriteRow(const float* from, uint8_t* to) const {
    AttentionMathFor(SimdLevel::kScalar).quantise_row(from, layer_.head_size, to);
  }

  static std::vector<float> Normal(std::mt19937& random, size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }

  AttentionLayer layer_;
  Load load_;
  int32_t columns_ = 0;
  int32_t num_blocks_ = 0;
  int64_t pool_ = 0;  // Elements of the keys of one layer.
  int64_t layers_ = 0;
  std::vector<int32_t> table_, cu_seqlens_, past_lens_;
  std::vector<Element> caches_;
  std::vector<float> query_, key_, output_;
  PagedAttentionScratch scratch_;
};

struct Limits {
  double bytes_per_second = 0.0;
  double flops_per_second = 0.0;
  double int8_ops_per_second = 0.0;
};

template <typename Element>
void Print(const AttentionLayer& layer, const Load& load, const AttentionMath& math, const ParallelFor& parallel_for,
           const Limits& limits) {
  Step<Element> step(layer, load);
  const double seconds = step.Measure(math, parallel_for);
  const double bytes = step.Bytes() / seconds;
  const double operations = step.Operations() / seconds;
  const bool is_int8 = sizeof(Element) == 1;
  const double limit = is_int8 ? limits.int8_ops_per_second : limits.flops_per_second;
  std::printf("| %s | %d | %d | %d | %s | %.1f | %.1f | %.0f%% | %.1f | %.0f%% |\n", load.name, load.sequences,
              load.past, load.tokens, is_int8 ? "int8" : "float", seconds * 1e6, bytes / 1e9,
              100.0 * bytes / limits.bytes_per_second, operations / 1e9,
              limit > 0.0 ? 100.0 * operations / limit : 0.0);
}

int Main(int threads, const char* wanted, AttentionLayer layer) {
  SimdLevel level = SimdLevel::kScalar;
  if (const Status status = ChooseSimdLevel(wanted, &level); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 2;
  }
  layer.scale = 1.0F / std::sqrt(static_cast<float>(layer.head_size));
  SpinningTeam team(threads);
  const ParallelFor parallel_for = [&](size_t count, const Task& task) { team.Run(count, task); };
  const Limits limits{ReadBytesPerSecond(parallel_for, threads), FmaFlopsPerSecond(parallel_for, threads),
                      VnniOpsPerSecond(parallel_for, threads)};
  std::printf("limits with %d threads: memory %.1f GB/s, float multiply-add %.0f GFLOP/s, VNNI %.0f Gop/s\n\n", threads,
              limits.bytes_per_second / 1e9, limits.flops_per_second / 1e9, limits.int8_ops_per_second / 1e9);
  std::printf(
      "| step | sequences | past | new | cache | us | GB/s | of memory | Gop/s | of float multiply-add or VNNI |\n");
  std::printf("|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Load& load : kLoads) {
    Print<float>(layer, load, AttentionMathFor(level), parallel_for, limits);
    Print<uint8_t>(layer, load, AttentionMathFor(level), parallel_for, limits);
  }
  return 0;
}

}  // namespace
}  // namespace naiad

int main(int argc, char** argv) {
  const auto number = [&](int index, int otherwise) {
    return argc > index ? std::max(1, std::atoi(argv[index])) : otherwise;
  };
  return naiad::Main(number(1, 2), argc > 2 ? argv[2] : nullptr, {number(3, 9), number(4, 3), number(5, 64)});
}
