// The decoder's glue over the real engine, a runner that counts up, and a fake server.
#include "triton/decoder_instance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "fake_triton.h"

namespace naiad {
namespace {

using testing::Int32Input;
using testing::Int32s;
using testing::MetricValue;
using testing::NewRequest;
using testing::ReceivedResponse;
using testing::RequestSpec;

constexpr int32_t kVocabulary = 32;

// The next token is the last one plus 1.
class CountingRunner : public ModelRunner {
 public:
  [[nodiscard]] const DecoderShape& shape() const override { return shape_; }

  Status CopyBlocks(std::span<const BlockCopy> /*copies*/) override { return Status::Ok(); }
  Status Run(const PackedBatch& batch, std::span<float>* logits) override {
    logits_.assign(batch.logit_rows.size() * kVocabulary, 0.0F);
    for (size_t row = 0; row < batch.logit_rows.size(); ++row) {
      const auto token = batch.input_ids[static_cast<size_t>(batch.logit_rows[row])];
      logits_[row * kVocabulary + static_cast<size_t>((token + 1) % kVocabulary)] = 10.0F;
    }
    *logits = logits_;
    return Status::Ok();
  }

 private:
  DecoderShape shape_{
      .vocabulary_size = kVocabulary, .context_length_tokens = 100'000, .num_blocks = 8'192, .block_tokens = 16};
  std::vector<float> logits_;
};

class DecoderInstanceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MetricFamilies::Create(&families_).ok());
    Make(nullptr);
  }

  void Make(CompileGuide compile_guide) {
    instance_.reset();
    std::unique_ptr<ModelMetrics> metrics;
    ASSERT_TRUE(ModelMetrics::Create(*families_, {{"model", "chat"}}, EngineKind::kDecoder, &metrics).ok());
    EngineOptions options;
    options.max_step_tokens = 64;
    options.eos_token_ids = {31};
    instance_ = std::make_unique<DecoderInstance>(nullptr, options, std::make_unique<CountingRunner>(),
                                                  std::move(metrics), std::move(compile_guide));
  }

  static RequestSpec Generate(const std::string& id, std::vector<int32_t> prompt, int64_t max_tokens) {
    return {.id = id,
            .inputs = {Int32Input("input_ids", prompt)},
            .parameters = {{"request_output_len", max_tokens}},
            .requested_outputs = {}};
  }

  std::shared_ptr<testing::RequestLog> Execute(RequestSpec spec) {
    auto [request, log] = NewRequest(std::move(spec));
    instance_->Execute(request);
    return log;
  }

  static std::string Text(const ReceivedResponse& response, const std::string& name) {
    const auto found = response.parameters.find(name);
    return found == response.parameters.end() ? "" : std::get<std::string>(found->second);
  }

  static int64_t Number(const ReceivedResponse& response, const std::string& name) {
    return std::get<int64_t>(response.parameters.at(name));
  }

  static std::vector<int32_t> Tokens(const std::vector<ReceivedResponse>& responses) {
    std::vector<int32_t> tokens;
    for (const ReceivedResponse& response : responses) {
      const auto more = Int32s(response.tensors.at("output_ids"));
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
    return tokens;
  }

  std::unique_ptr<MetricFamilies> families_;
  std::unique_ptr<DecoderInstance> instance_;
};

TEST_F(DecoderInstanceTest, StreamsTokensAndEndsWithASummary) {
  const auto log = Execute(Generate("a", {1, 2}, 4));
  const auto responses = log->WaitForRelease();
  EXPECT_EQ(Tokens(responses), (std::vector<int32_t>{3, 4, 5, 6}));
  const ReceivedResponse& last = responses.back();
  EXPECT_TRUE(last.is_final);
  EXPECT_EQ(std::count_if(responses.begin(), responses.end(), [](const auto& r) { return r.is_final; }), 1);
  EXPECT_EQ(Text(last, "finish_reason"), "length");
  EXPECT_EQ(Number(last, "prompt_tokens"), 2);
  EXPECT_EQ(Number(last, "completion_tokens"), 4);
  ASSERT_EQ(log->statistics().size(), 1U);
  EXPECT_TRUE(log->statistics()[0].success);
  EXPECT_GT(log->statistics()[0].exec_start_ns, 0U);
  EXPECT_LE(log->statistics()[0].compute_start_ns, log->statistics()[0].compute_end_ns);
}

TEST_F(DecoderInstanceTest, NamesTheStopTokenThatEndedARequest) {
  const auto responses = Execute(Generate("a", {29}, 10))->WaitForRelease();
  EXPECT_EQ(Tokens(responses), (std::vector<int32_t>{30, 31}));
  EXPECT_EQ(Text(responses.back(), "finish_reason"), "stop");
  EXPECT_EQ(Number(responses.back(), "stop_token_id"), 31);
}

TEST_F(DecoderInstanceTest, AStopMessageIsAnsweredAtOnceAndCancelsTheRequestOfItsId) {
  RequestSpec endless = Generate("a", {1}, 90'000);
  endless.parameters["ignore_eos"] = true;
  const auto log = Execute(endless);
  log->WaitForResponses(2);
  const auto stop_log = Execute({.id = "a", .inputs = {}, .parameters = {{"stop", true}}, .requested_outputs = {}});
  const auto stop_responses = stop_log->WaitForRelease();
  ASSERT_EQ(stop_responses.size(), 1U);
  EXPECT_TRUE(stop_responses[0].is_final);
  EXPECT_TRUE(stop_responses[0].tensors.empty());
  EXPECT_TRUE(stop_responses[0].parameters.empty());
  EXPECT_EQ(Text(log->WaitForRelease().back(), "finish_reason"), "cancelled");
}

TEST_F(DecoderInstanceTest, SequencesOfOneRequestEndOneByOneAndTheLastIsFinal) {
  RequestSpec several = Generate("a", {1, 2}, 4);
  several.parameters["num_return_sequences"] = int64_t{3};
  const auto log = Execute(several);
  const auto responses = log->WaitForRelease();
  std::map<int64_t, std::vector<int32_t>> tokens;
  std::map<int64_t, int> ends;
  for (const ReceivedResponse& response : responses) {
    const int64_t sequence = Number(response, "sequence_index");
    const auto more = Int32s(response.tensors.at("output_ids"));
    tokens[sequence].insert(tokens[sequence].end(), more.begin(), more.end());
    ends[sequence] += Text(response, "finish_reason") == "length" ? 1 : 0;
    EXPECT_EQ(response.is_final, &response == &responses.back());
  }
  const std::vector<int32_t> expected = {3, 4, 5, 6};
  EXPECT_EQ(tokens, (std::map<int64_t, std::vector<int32_t>>{{0, expected}, {1, expected}, {2, expected}}));
  EXPECT_EQ(ends, (std::map<int64_t, int>{{0, 1}, {1, 1}, {2, 1}}));
  EXPECT_EQ(log->statistics().size(), 1U);
  EXPECT_EQ(MetricValue("naiad_request_success_total{model=chat,finished_reason=length}"), 3.0);
  EXPECT_EQ(MetricValue("naiad_prompt_tokens_total{model=chat}"), 2.0);
  EXPECT_EQ(MetricValue("naiad_generation_tokens_total{model=chat}"), 12.0);
}

TEST_F(DecoderInstanceTest, AStopMessageForOneSequenceLeavesTheOthersRunning) {
  RequestSpec endless = Generate("a", {1}, 90'000);
  endless.parameters["ignore_eos"] = true;
  endless.parameters["num_return_sequences"] = int64_t{2};
  const auto log = Execute(endless);
  log->WaitForResponses(2);
  const auto stop = [&](std::map<std::string, std::variant<std::string, int64_t, bool, double>> parameters) {
    parameters["stop"] = true;
    Execute({.id = "a", .inputs = {}, .parameters = std::move(parameters), .requested_outputs = {}})->WaitForRelease();
  };
  stop({{"sequence_index", int64_t{1}}});
  size_t seen = 2;
  const auto ended = [&](const auto& response) { return Text(response, "finish_reason") == "cancelled"; };
  std::vector<ReceivedResponse> responses = log->WaitForResponses(seen);
  while (std::none_of(responses.begin(), responses.end(), ended)) responses = log->WaitForResponses(++seen);
  const auto first_end = std::find_if(responses.begin(), responses.end(), ended);
  EXPECT_EQ(Number(*first_end, "sequence_index"), 1);
  EXPECT_FALSE(first_end->is_final);
  stop({});
  responses = log->WaitForRelease();
  EXPECT_TRUE(responses.back().is_final);
  EXPECT_EQ(Number(responses.back(), "sequence_index"), 0);
  EXPECT_EQ(Text(responses.back(), "finish_reason"), "cancelled");
}

TEST_F(DecoderInstanceTest, ARequestWhoseClientIsGoneEnds) {
  RequestSpec endless = Generate("a", {1}, 90'000);
  endless.parameters["ignore_eos"] = true;
  const auto log = Execute(endless);
  log->WaitForResponses(2);
  log->Cancel();
  EXPECT_EQ(Text(log->WaitForRelease().back(), "finish_reason"), "cancelled");
}

TEST_F(DecoderInstanceTest, ABadRequestEndsWithAnErrorThatNamesTheField) {
  RequestSpec bad = Generate("a", {1}, 4);
  bad.parameters["temperature"] = std::string("hot");
  const auto log = Execute(bad);
  const auto responses = log->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_TRUE(responses[0].is_final);
  EXPECT_EQ(responses[0].error, "");
  EXPECT_EQ(Text(responses[0], "finish_reason"), "error");
  EXPECT_EQ(Text(responses[0], "error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(Text(responses[0], "error_message"), "temperature must be a number parameter");
  ASSERT_EQ(log->statistics().size(), 1U);
  EXPECT_FALSE(log->statistics()[0].success);
  EXPECT_EQ(MetricValue("naiad_request_failure_total{model=chat,reason=INVALID_ARGUMENT}"), 1.0);
}

TEST_F(DecoderInstanceTest, AGuideIsRefusedWhereNoneIsSupported) {
  RequestSpec guided = Generate("a", {1}, 4);
  guided.parameters["guided_decoding_guide_type"] = std::string("json");
  const auto responses = Execute(guided)->WaitForRelease();
  EXPECT_EQ(Text(responses.back(), "error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(Text(responses.back(), "error_message"), "guided_decoding_guide_type: no guide is supported");
}

TEST_F(DecoderInstanceTest, AGuideThatDoesNotCompileIsRefusedByName) {
  GuideSpec seen;
  Make([&seen](const GuideSpec& guide, std::shared_ptr<const Grammar>*) {
    seen = guide;
    return Status::InvalidArgument("guided_decoding_guide: unbalanced parenthesis at 0");
  });
  RequestSpec guided = Generate("a", {1}, 4);
  guided.parameters["guided_decoding_guide_type"] = std::string("regex");
  guided.parameters["guided_decoding_guide"] = std::string("(");
  const auto responses = Execute(guided)->WaitForRelease();
  EXPECT_EQ(Text(responses.back(), "error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(Text(responses.back(), "error_message"), "guided_decoding_guide: unbalanced parenthesis at 0");
  EXPECT_EQ(seen.kind, GuideSpec::Kind::kRegex);
  EXPECT_EQ(seen.text, "(");
}

TEST_F(DecoderInstanceTest, ARequestThatTheEngineRefusesIsCountedOnce) {
  const auto responses = Execute(Generate("a", {kVocabulary}, 4))->WaitForRelease();
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_EQ(Text(responses[0], "error_code"), "INVALID_ARGUMENT");
  EXPECT_EQ(MetricValue("naiad_request_failure_total{model=chat,reason=INVALID_ARGUMENT}"), 1.0);
}

TEST_F(DecoderInstanceTest, ManyRequestsFromOneThreadAllGetTheirOwnTokens) {
  constexpr int32_t kRequests = 32;
  std::vector<std::shared_ptr<testing::RequestLog>> logs;
  for (int32_t index = 0; index < kRequests; ++index) {
    RequestSpec spec = Generate(std::to_string(index), {index % 8}, 5);
    logs.push_back(Execute(std::move(spec)));
  }
  for (int32_t index = 0; index < kRequests; ++index) {
    const int32_t first = index % 8 + 1;
    EXPECT_EQ(Tokens(logs[static_cast<size_t>(index)]->WaitForRelease()),
              (std::vector<int32_t>{first, first + 1, first + 2, first + 3, first + 4}));
  }
}

TEST_F(DecoderInstanceTest, RequestsOfOneGroupGetTheTokensThatEachGetsAloneThroughEachOther) {
  constexpr int32_t kRequests = 24;
  std::vector<std::shared_ptr<testing::RequestLog>> logs;
  for (int32_t index = 0; index < kRequests; ++index) {
    RequestSpec spec = Generate(std::to_string(index), {index % 8}, 5 + index % 7);
    spec.parameters["num_return_sequences"] = int64_t{1 + index % 3};
    spec.parameters["delta_group"] = std::string(index % 4 == 0 ? "other" : "one");
    spec.parameters["delta_key"] = int64_t{index};
    logs.push_back(Execute(std::move(spec)));
  }
  std::map<std::pair<int32_t, int32_t>, std::map<int32_t, int32_t>> tokens;  // By key and sequence, then position.
  std::map<std::pair<int32_t, int32_t>, int64_t> counts;
  for (int32_t request = 0; request < kRequests; ++request) {
    for (const ReceivedResponse& response : logs[static_cast<size_t>(request)]->WaitForRelease()) {
      const auto values = Int32s(response.tensors.at("output_ids"));
      if (!response.parameters.contains("delta_count")) {
        ASSERT_EQ(Text(response, "finish_reason"), "length");
        const std::pair name(request, static_cast<int32_t>(Number(response, "sequence_index")));
        counts[name] = Number(response, "completion_tokens");
        const auto first = static_cast<int32_t>(counts[name]) - static_cast<int32_t>(values.size());
        for (size_t i = 0; i < values.size(); ++i) tokens[name][first + static_cast<int32_t>(i)] = values[i];
        continue;
      }
      EXPECT_FALSE(response.is_final);
      const auto deltas = static_cast<size_t>(Number(response, "delta_count"));
      size_t next = 4 * deltas;
      for (size_t i = 0; i < deltas; ++i) {
        EXPECT_EQ(values[4 * i] % 4 == 0, request % 4 == 0) << "tokens of another group";
        for (int32_t k = 0; k < values[4 * i + 3]; ++k) {
          tokens[{values[4 * i], values[4 * i + 1]}][values[4 * i + 2] + k] = values[next++];
        }
      }
      EXPECT_EQ(next, values.size());
    }
  }
  for (int32_t index = 0; index < kRequests; ++index) {
    for (int32_t sequence = 0; sequence <= index % 3; ++sequence) {
      std::map<int32_t, int32_t> expected;
      for (int32_t i = 0; i < 5 + index % 7; ++i) expected[i] = index % 8 + 1 + i;
      EXPECT_EQ((tokens[{index, sequence}]), expected);
      EXPECT_EQ((counts[{index, sequence}]), 5 + index % 7);
    }
  }
}

TEST_F(DecoderInstanceTest, MembersOfAGroupAreStoppedAndRefusedWithoutHarmToOthers) {
  const auto grouped = [](RequestSpec spec, int64_t key) {
    spec.parameters["delta_group"] = std::string("g");
    spec.parameters["delta_key"] = key;
    spec.parameters["ignore_eos"] = true;
    return spec;
  };
  const auto first = Execute(grouped(Generate("a", {1}, 90'000), 1));
  first->WaitForResponses(2);  // It carries, being the first.
  const auto second = Execute(grouped(Generate("b", {1}, 2'000), 2));
  const auto refused = Execute(grouped(Generate("b", {1}, 5), 3));  // On this thread, not the engine's.
  EXPECT_EQ(Text(refused->WaitForRelease().back(), "error_code"), "INVALID_ARGUMENT");
  Execute({.id = "a", .inputs = {}, .parameters = {{"stop", true}}, .requested_outputs = {}})->WaitForRelease();
  EXPECT_EQ(Text(first->WaitForRelease().back(), "finish_reason"), "cancelled");
  const auto responses = second->WaitForRelease();
  EXPECT_EQ(Text(responses.back(), "finish_reason"), "length");
  EXPECT_EQ(Number(responses.back(), "completion_tokens"), 2'000);
}

TEST_F(DecoderInstanceTest, DestructionEndsLiveRequestsAsUnavailable) {
  RequestSpec endless = Generate("a", {1}, 90'000);
  endless.parameters["ignore_eos"] = true;
  const auto log = Execute(endless);
  log->WaitForResponses(1);
  instance_.reset();
  const auto responses = log->WaitForRelease();
  EXPECT_EQ(Text(responses.back(), "finish_reason"), "error");
  EXPECT_EQ(Text(responses.back(), "error_code"), "UNAVAILABLE");
}

}  // namespace
}  // namespace naiad
