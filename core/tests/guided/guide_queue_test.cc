#include "guided/guide_queue.h"

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sampling/logits_rule.h"

namespace naiad {
namespace {

class Sink final : public GenerationSink {
 public:
  explicit Sink(bool abandoned) : abandoned_(abandoned) {}
  void OnDelta(TokenDelta /*delta*/) override {}
  void OnFinished(TokenDelta /*last*/, const FinishedSummary& /*summary*/) override {}
  [[nodiscard]] bool IsAbandoned() const override { return abandoned_; }

 private:
  const bool abandoned_;
};

class AnyGrammar final : public Grammar {
 public:
  [[nodiscard]] std::unique_ptr<LogitsRule> MakeRule() const override { return nullptr; }
};

GenerationRequest RequestOf(std::string id, bool abandoned = false) {
  GenerationRequest request;
  request.id = std::move(id);
  request.sink = std::make_unique<Sink>(abandoned);
  return request;
}

// A queue whose compiler waits when it is told to, and that writes down what becomes of each request.
class GuideQueueTest : public ::testing::Test {
 protected:
  void Start(int32_t max_waiting_requests) {
    queue_ = std::make_unique<GuideQueue>(
        GuideQueueTargets{
            .find =
                [](const GuideSpec& guide) { return guide.text == "known" ? std::make_shared<AnyGrammar>() : nullptr; },
            .compile = [this](const GuideSpec& guide,
                              std::shared_ptr<const Grammar>* grammar) { return Compile(guide, grammar); },
            .submit = [this](GenerationRequest&& request) { return Submit(std::move(request)); },
            .refuse = [this](GenerationRequest&& request,
                             const Status& status) { Note(request, "refused " + status.message()); },
            .cancel = [this](GenerationRequest&& request) { Note(request, "cancelled"); }},
        max_waiting_requests);
  }

  Status Compile(const GuideSpec& guide, std::shared_ptr<const Grammar>* grammar) {
    if (guide.text == "slow") {
      compiling_.set_value();
      release_.get_future().wait();
    }
    if (guide.text == "wrong") return Status::InvalidArgument("wrong");
    *grammar = std::make_shared<AnyGrammar>();
    return Status::Ok();
  }

  Status Submit(GenerationRequest&& request) {
    if (request.id == "unwelcome") return Status::Unavailable("full");
    Note(request, request.grammar != nullptr ? "submitted" : "submitted without grammar");
    const GenerationRequest taken = std::move(request);
    return Status::Ok();
  }

  void Note(const GenerationRequest& request, const std::string& fate) {
    const std::lock_guard lock(mutex_);
    fates_[request.id] += fate;
    changed_.notify_all();
  }

  std::string FateOf(const std::string& id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return fates_.contains(id); });
    return fates_[id];
  }

  Status Push(const std::string& guide, GenerationRequest request) {
    return queue_->Push({GuideSpec::Kind::kRegex, guide}, std::move(request));
  }

  bool Stop(const std::string& id) {
    bool passed_on = false;
    queue_->Stop(id, [&] { passed_on = true; });
    return !passed_on;
  }

  std::promise<void> compiling_;  // Set when the compiler is at "slow".
  std::promise<void> release_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> fates_;
  std::unique_ptr<GuideQueue> queue_;
};

TEST_F(GuideQueueTest, HandsRequestsOnWithTheirGrammar) {
  Start(4);
  ASSERT_TRUE(Push("a", RequestOf("one")).ok());
  EXPECT_EQ(FateOf("one"), "submitted");
}

TEST_F(GuideQueueTest, AKnownGuideWaitsForNoOther) {
  Start(4);
  ASSERT_TRUE(Push("slow", RequestOf("one")).ok());
  compiling_.get_future().wait();
  ASSERT_TRUE(Push("known", RequestOf("two")).ok());
  EXPECT_EQ(FateOf("two"), "submitted");
  EXPECT_EQ(Push("known", RequestOf("unwelcome")).message(), "full");
  release_.set_value();
}

TEST_F(GuideQueueTest, RefusesWrongGuidesAndWhatTheEngineRefuses) {
  Start(4);
  ASSERT_TRUE(Push("wrong", RequestOf("one")).ok());
  ASSERT_TRUE(Push("a", RequestOf("unwelcome")).ok());
  EXPECT_EQ(FateOf("one"), "refused wrong");
  EXPECT_EQ(FateOf("unwelcome"), "refused full");
}

TEST_F(GuideQueueTest, IsBoundedAndKnowsItsRequests) {
  Start(1);
  ASSERT_TRUE(Push("slow", RequestOf("one")).ok());
  compiling_.get_future().wait();
  ASSERT_TRUE(Push("a", RequestOf("two")).ok());
  EXPECT_EQ(Push("a", RequestOf("three")).code(), ErrorCode::kResourceExhausted);
  EXPECT_EQ(Push("a", RequestOf("one")).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(Push("a", RequestOf("two")).code(), ErrorCode::kInvalidArgument);
  release_.set_value();
  EXPECT_EQ(FateOf("two"), "submitted");
}

TEST_F(GuideQueueTest, ARequestIsStoppedWhileItWaitsOrItsGuideIsInWork) {
  Start(4);
  ASSERT_TRUE(Push("slow", RequestOf("one")).ok());
  compiling_.get_future().wait();
  ASSERT_TRUE(Push("a", RequestOf("two")).ok());
  EXPECT_TRUE(Stop("one"));
  EXPECT_TRUE(Stop("two"));
  EXPECT_EQ(FateOf("one"), "cancelled");
  EXPECT_EQ(FateOf("two"), "cancelled");
  EXPECT_FALSE(Stop("one")) << "it is gone, even though its guide is still in work";
  ASSERT_TRUE(Push("a", RequestOf("three")).ok());
  release_.set_value();
  EXPECT_EQ(FateOf("three"), "submitted");
  queue_.reset();
  EXPECT_EQ(FateOf("one"), "cancelled");
}

TEST_F(GuideQueueTest, StopsOfOtherRequestsArePassedOn) {
  Start(4);
  EXPECT_FALSE(Stop("unknown"));
  ASSERT_TRUE(Push("a", RequestOf("one")).ok());
  EXPECT_EQ(FateOf("one"), "submitted");
  EXPECT_FALSE(Stop("one"));
}

TEST_F(GuideQueueTest, NobodyCompilesForAClientThatHasLeft) {
  Start(4);
  ASSERT_TRUE(Push("wrong", RequestOf("one", true)).ok());
  EXPECT_EQ(FateOf("one"), "cancelled");
}

TEST_F(GuideQueueTest, TheEndAnswersEveryRequest) {
  Start(4);
  ASSERT_TRUE(Push("slow", RequestOf("one")).ok());
  compiling_.get_future().wait();
  ASSERT_TRUE(Push("a", RequestOf("two")).ok());
  std::thread end([this] { queue_.reset(); });
  EXPECT_EQ(FateOf("two"), "refused shutting down");
  release_.set_value();
  end.join();
  EXPECT_EQ(FateOf("one"), "submitted");
}

}  // namespace
}  // namespace naiad
