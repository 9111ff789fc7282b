// A binary of its own, because only the first sessions of a process show whether opening them together is safe.
#include <latch>
#include <thread>
#include <vector>

#include "ort/encoder_runner.h"
#include "ort_test_support.h"

namespace naiad::testing {
namespace {

TEST(ConcurrentLoadTest, FirstModelsOfAProcessCanLoadTogether) {
  constexpr size_t kModels = 8;
  const EncoderGraph graph{ModelsFolder() + "/classify/1/model.onnx", 64, 256, false, true, 3};
  const std::shared_ptr<OrtRuntime> runtime = LoadRuntime();
  std::vector<Status> statuses(kModels);
  std::vector<std::unique_ptr<EncoderRunner>> runners(kModels);
  std::latch together(kModels);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kModels; ++i) {
    threads.emplace_back([&, i] {
      together.arrive_and_wait();
      statuses[i] = CreateEncoderRunner(runtime, graph, kThreads, &runners[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) EXPECT_TRUE(status.ok()) << status.message();
}

}  // namespace
}  // namespace naiad::testing
