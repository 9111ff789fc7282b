// Prints, for each product of the `chat` model and several numbers of rows, how fast the linear kernel is and what
// share of the machine's limit that is: of its memory for one row, of its arithmetic for many.
//
//   linear_benchmark [THREADS [LEVEL]]    2 threads and the best level unless told otherwise
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/linear.h"
#include "machine_limits.h"
#include "spinning_team.h"

namespace naiad {
namespace {

struct Shape {
  const char* name;
  int32_t inputs;
  int32_t outputs;
  bool is_gated = false;
};
constexpr Shape kShapes[] = {{"query, key, value", 576, 960},
                             {"attention output", 576, 576},
                             {"gate and up", 576, 3072},
                             {"down, gated", 1536, 576, true},
                             {"output projection", 576, 49152}};
constexpr int kRows[] = {1, 8, 32, 64, 256};
constexpr double kSecondsEach = 0.25;
// More copies of the weights than the caches hold, used in turns, as the layers of a model are.
constexpr size_t kWeightBytes = size_t{96} << 20;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds of one product, the best third of all.
double Measure(const Shape& shape, LinearFormat format, int rows, const LinearMath& math, SpinningTeam* team) {
  LinearWeights weights{format, shape.inputs, shape.outputs, 1.0F, {}, {}, shape.is_gated};
  const size_t bytes = static_cast<size_t>(TilesOf(shape.outputs) * TileBytes(format, shape.inputs));
  const size_t copies = std::max<size_t>(1, kWeightBytes / bytes);
  // Half 0x2c2c is 0.065: no scale is a special number.
  const std::vector<uint8_t> packed(bytes * copies, 0x2c);
  std::vector<float> input(static_cast<size_t>(rows * InputWidth(weights)));
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (float& value : input) value = normal(random);
  std::vector<float> output(static_cast<size_t>(rows) * static_cast<size_t>(shape.outputs));
  LinearScratch scratch;
  std::vector<double> times;
  const double end = Seconds() + kSecondsEach;
  for (size_t copy = 0; Seconds() < end || times.size() < 3; copy = (copy + 1) % copies) {
    weights.packed = std::span(packed).subspan(copy * bytes, bytes);
    const double begin = Seconds();
    const Status status = Linear(
        {weights, input, output}, math, [&](size_t count, const Task& task) { team->Run(count, task); }, &scratch);
    if (!status.ok()) std::abort();
    times.push_back(Seconds() - begin);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 3), times.end());
  return times[times.size() / 3];
}

const char* NameOf(LinearFormat format) {
  if (format == LinearFormat::kInt8Wide) return "8, wide";
  return format == LinearFormat::kInt4 ? "4" : "8";
}

// 0 of a limit that this machine does not have.
double Percent(double speed, double limit) { return limit > 0.0 ? 100.0 * speed / limit : 0.0; }

int Main(int threads, const char* wanted) {
  SimdLevel level = SimdLevel::kScalar;
  if (const Status status = ChooseSimdLevel(wanted, &level); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 2;
  }
  SpinningTeam team(threads);
  const ParallelFor parallel_for = [&](size_t count, const Task& task) { team.Run(count, task); };
  const double read = ReadBytesPerSecond(parallel_for, threads);
  const double vnni = VnniOpsPerSecond(parallel_for, threads);
  const double tiles = TileOpsPerSecond(parallel_for, threads);
  std::printf("limits with %d threads: memory %.1f GB/s, VNNI %.0f GOP/s, AMX %.0f GOP/s; level %s\n\n", threads,
              read / 1e9, vnni / 1e9, tiles / 1e9, SimdLevelName(level));
  std::printf("| product | K | N | bits | rows | us | GB/s | of memory | GOP/s | of VNNI | of AMX |\n");
  std::printf("|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const Shape& shape : kShapes) {
    for (const LinearFormat format : {LinearFormat::kInt4, LinearFormat::kInt8, LinearFormat::kInt8Wide}) {
      for (const int rows : kRows) {
        const double seconds = Measure(shape, format, rows, LinearMathFor(level), &team);
        const double bytes = static_cast<double>(TilesOf(shape.outputs) * TileBytes(format, shape.inputs)) / seconds;
        const double operations = 2.0 * rows * shape.inputs * shape.outputs / seconds;
        std::printf("| %s | %d | %d | %s | %d | %.1f | %.1f | %.0f%% | %.0f | %.0f%% | %.0f%% |\n", shape.name,
                    shape.inputs, shape.outputs, NameOf(format), rows, seconds * 1e6, bytes / 1e9, 100.0 * bytes / read,
                    operations / 1e9, Percent(operations, vnni), Percent(operations, tiles));
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace naiad

int main(int argc, char** argv) {
  return naiad::Main(argc > 1 ? std::max(1, std::atoi(argv[1])) : 2, argc > 2 ? argv[2] : nullptr);
}
