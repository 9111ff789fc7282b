// The engine with its own thread; meant for ThreadSanitizer.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <thread>

#include "tests/engine/engine_test_doubles.h"

namespace naiad::testing {
namespace {

TEST(EngineThreadTest, ServesManyClientThreadsAtOnce) {
  constexpr int32_t kClients = 6;
  constexpr int32_t kRequestsEach = 30;
  EngineBench bench(EngineOptions{.max_step_tokens = 32, .max_active_requests = 8, .max_waiting_requests = 512});
  bench.engine.Start();
  std::vector<std::vector<std::shared_ptr<Recording>>> recordings(kClients);
  const auto prompt_of = [](int32_t client, int32_t i) {
    return MakePrompt(1 + (client * 7 + i) % 30, client * 100 + i);
  };
  {
    std::vector<std::jthread> clients;
    for (int32_t client = 0; client < kClients; ++client) {
      clients.emplace_back([&, client] {
        for (int32_t i = 0; i < kRequestsEach; ++i) {
          const std::string id = std::to_string(client) + "/" + std::to_string(i);
          auto recording = bench.Submit(id, prompt_of(client, i), 12);
          if (i % 3 == 1) bench.engine.Stop(id);
          if (i % 3 == 2) recording->WaitForToken();
          recordings[static_cast<size_t>(client)].push_back(std::move(recording));
        }
        for (const auto& recording : recordings[static_cast<size_t>(client)]) recording->WaitUntilFinished();
      });
    }
  }
  bench.engine.Shutdown();
  for (int32_t client = 0; client < kClients; ++client) {
    for (int32_t i = 0; i < kRequestsEach; ++i) {
      const Recording& recording = *recordings[static_cast<size_t>(client)][static_cast<size_t>(i)];
      const std::vector<int32_t> tokens = recording.tokens();
      EXPECT_EQ(tokens, ExpectedGreedy(prompt_of(client, i), static_cast<int32_t>(tokens.size())));
      if (i % 3 != 1) {
        EXPECT_EQ(tokens.size(), 12U);
      }
    }
  }
  bench.ExpectNoBlockHeld();
}

TEST(EngineThreadTest, AStopEndsAStreamInFlight) {
  EngineBench bench({}, 4096, 16384);
  bench.engine.Start();
  const auto recording = bench.Submit("a", MakePrompt(3, 1), 10'000);
  recording->WaitForToken();
  bench.engine.Stop("a");
  recording->WaitUntilFinished();
  EXPECT_EQ(recording->summary().reason, FinishReason::kCancelled);
  bench.engine.Shutdown();
  bench.ExpectNoBlockHeld();
}

TEST(EngineThreadTest, ShutdownEndsWhatOthersStillSubmit) {
  EngineBench bench(EngineOptions{.max_active_requests = 4, .max_waiting_requests = 8}, 4096, 16384);
  bench.engine.Start();
  std::vector<std::shared_ptr<Recording>> accepted;
  const auto first = bench.Submit("first", MakePrompt(3, 1), 10'000);
  {
    const std::jthread client([&] {
      for (int32_t i = 0;; ++i) {
        auto recording = std::make_shared<Recording>();
        const Status status = bench.engine.Submit(MakeRequest(std::to_string(i), MakePrompt(3, i), 10'000, recording));
        if (status.code() == ErrorCode::kUnavailable) return;
        if (status.ok()) accepted.push_back(std::move(recording));
      }
    });
    first->WaitForToken();
    const std::jthread second_caller([&] { bench.engine.Shutdown(); });
    bench.engine.Shutdown();
  }
  EXPECT_EQ(first->summary().error.code(), ErrorCode::kUnavailable);
  for (const auto& recording : accepted) {
    EXPECT_TRUE(recording->is_finished());
    EXPECT_EQ(recording->summary().reason, FinishReason::kError);
  }
  bench.ExpectNoBlockHeld();
}

TEST(EngineThreadTest, AnIdleEngineWakesForEachRequest) {
  EngineBench bench;
  bench.engine.Start();
  for (int32_t i = 0; i < 50; ++i) {
    const auto recording = bench.Submit("same id every time", MakePrompt(3, i), 2);
    recording->WaitUntilFinished();
    EXPECT_EQ(recording->tokens(), ExpectedGreedy(MakePrompt(3, i), 2));
  }
}

}  // namespace
}  // namespace naiad::testing
