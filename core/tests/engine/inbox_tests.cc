#include <gtest/gtest.h>

#include "engine/inbox.h"
#include "tests/engine/engine_test_doubles.h"

namespace naiad {
namespace {

GenerationRequest Request(const std::string& id) {
  return testing::MakeRequest(id, {1}, 1, std::make_shared<testing::Recording>());
}

Mail Collect(Inbox& inbox) {
  Mail mail;
  inbox.Collect(/*wait=*/false, &mail);
  return mail;
}

TEST(InboxTest, GivesRequestsInOrderOfArrivalOnce) {
  Inbox inbox(8);
  ASSERT_TRUE(inbox.Push(Request("a")).ok());
  ASSERT_TRUE(inbox.Push(Request("b")).ok());
  const Mail mail = Collect(inbox);
  ASSERT_EQ(mail.requests.size(), 2U);
  EXPECT_EQ(mail.requests[0].request.id, "a");
  EXPECT_EQ(mail.requests[1].request.id, "b");
  EXPECT_LT(mail.requests[0].serial, mail.requests[1].serial);
  EXPECT_TRUE(Collect(inbox).requests.empty());
}

TEST(InboxTest, RefusesMoreThanItsBoundUntilRequestsLeaveTheQueue) {
  Inbox inbox(2);
  ASSERT_TRUE(inbox.Push(Request("a")).ok());
  ASSERT_TRUE(inbox.Push(Request("b")).ok());
  Collect(inbox);
  GenerationRequest third = Request("c");
  EXPECT_EQ(inbox.Push(std::move(third)).code(), ErrorCode::kResourceExhausted) << "collected is not yet started";
  EXPECT_EQ(third.id, "c");
  EXPECT_NE(third.sink, nullptr);
  inbox.OnLeftWaiting(1);
  EXPECT_TRUE(inbox.Push(std::move(third)).ok());
  EXPECT_EQ(inbox.waiting_requests(), 2);
}

TEST(InboxTest, RefusesALiveIdUntilItsRequestHasEnded) {
  Inbox inbox(8);
  ASSERT_TRUE(inbox.Push(Request("a")).ok());
  EXPECT_EQ(inbox.Push(Request("a")).code(), ErrorCode::kInvalidArgument);
  inbox.OnEnded("a");
  EXPECT_TRUE(inbox.Push(Request("a")).ok());
}

TEST(InboxTest, AStopHitsOnlyTheRequestThatWasLiveThen) {
  Inbox inbox(8);
  ASSERT_TRUE(inbox.Push(Request("a")).ok());
  inbox.PushStop("a");
  inbox.PushStop("a");
  inbox.PushStop("unknown");
  inbox.OnEnded("a");
  ASSERT_TRUE(inbox.Push(Request("a")).ok());
  const Mail mail = Collect(inbox);
  ASSERT_EQ(mail.stops.size(), 1U) << "one stop a request, none for unknown ids";
  EXPECT_EQ(mail.stops[0].serial, mail.requests[0].serial);
  EXPECT_NE(mail.stops[0].serial, mail.requests[1].serial);
}

TEST(InboxTest, AClosedInboxRefusesAndDoesNotWait) {
  Inbox inbox(8);
  inbox.Close();
  EXPECT_EQ(inbox.Push(Request("a")).code(), ErrorCode::kUnavailable);
  Mail mail;
  inbox.Collect(/*wait=*/true, &mail);
  EXPECT_TRUE(mail.closed);
}

}  // namespace
}  // namespace naiad
