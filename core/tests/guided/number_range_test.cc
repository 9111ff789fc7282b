#include "guided/number_range.h"

#include <gtest/gtest.h>
#include <regex.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>

namespace naiad {
namespace {

// Matches whole texts. POSIX's, as std::regex does not compile without warnings under the address sanitizer.
class Expression {
 public:
  explicit Expression(const std::string& text) {
    const std::string whole = std::string("^").append(text).append("$");
    EXPECT_EQ(regcomp(&compiled_, whole.c_str(), REG_EXTENDED | REG_NOSUB), 0) << text;
  }
  ~Expression() { regfree(&compiled_); }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  [[nodiscard]] bool Matches(const std::string& text) const {
    return regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t compiled_{};
};

TEST(NumberRange, WholeNumbersInAndOnlyThose) {
  const std::pair<int64_t, int64_t> ranges[] = {{0, 0},    {0, 120},   {5, 7},    {-5, 20},     {-120, -7}, {-1, 1},
                                                {99, 101}, {-100, 99}, {10, 999}, {-999, 1000}, {17, 17},   {-30, -30}};
  for (const auto& [low, high] : ranges) {
    const Expression regex(IntegerRangeRegex(low, high));
    for (int64_t number = -1'100; number <= 1'100; ++number) {
      EXPECT_EQ(regex.Matches(std::to_string(number)), number >= low && number <= high)
          << number << " in " << low << " .. " << high;
    }
    for (const char* text : {"-0", "00", "01", "", "-", "+1", "1.0", "1e1"}) EXPECT_FALSE(regex.Matches(text)) << text;
  }
}

TEST(NumberRange, WholeNumbersWithOneBoundHaveUpTo18Digits) {
  const Expression at_least(IntegerRangeRegex(-3, std::nullopt));
  for (const char* text : {"-3", "0", "7", "12345", "999999999999999999"}) EXPECT_TRUE(at_least.Matches(text)) << text;
  for (const char* text : {"-4", "1000000000000000000"}) EXPECT_FALSE(at_least.Matches(text)) << text;
  const Expression at_most(IntegerRangeRegex(std::nullopt, -3));
  EXPECT_TRUE(at_most.Matches("-999999999999999999"));
  EXPECT_FALSE(at_most.Matches("-2"));
  EXPECT_THROW(static_cast<void>(IntegerRangeRegex(std::numeric_limits<int64_t>::max(), std::nullopt)),
               std::runtime_error);
}

struct Bounds {
  std::optional<NumberBound> low;
  std::optional<NumberBound> high;

  [[nodiscard]] bool Holds(double number) const {
    return !(low && (low->is_exclusive ? number <= low->value : number < low->value)) &&
           !(high && (high->is_exclusive ? number >= high->value : number > high->value));
  }
};

std::string Text(const char* format, double value) {
  char text[64];
  const int size = std::snprintf(text, sizeof text, format, value);
  return {text, static_cast<size_t>(size)};
}

TEST(NumberRange, NumbersInAndOnlyThose) {
  const Bounds ranges[] = {
      {NumberBound{0}, NumberBound{1}},
      {NumberBound{0, true}, NumberBound{1, true}},
      {NumberBound{-1.5}, NumberBound{2.25}},
      {NumberBound{0.25, true}, NumberBound{0.75}},
      {NumberBound{-2, true}, NumberBound{-0.5, true}},
      {NumberBound{-90}, NumberBound{90}},
      {NumberBound{1.999}, NumberBound{2.001}},
      {NumberBound{3}, NumberBound{3}},
      {NumberBound{0, true}, std::nullopt},
      {std::nullopt, NumberBound{-1.1}},
      {NumberBound{-7}, NumberBound{0, true}},
  };
  for (const Bounds& bounds : ranges) {
    const Expression regex(NumberRangeRegex(bounds.low, bounds.high));
    for (int thousandth = -3'000; thousandth <= 3'000; ++thousandth) {
      const double number = thousandth / 1000.0;
      // Enough digits for all bounds here, so that it must match if it is in the range.
      const std::string text = Text("%.5f", number);
      const bool is_minus_zero = thousandth == 0 && text[0] == '-';
      // A bound itself is written with as many decimals as it needs.
      const bool is_bound =
          (bounds.high && number == bounds.high->value) || (bounds.low && number == bounds.low->value);
      if (!is_minus_zero && !is_bound) {
        EXPECT_EQ(regex.Matches(text), bounds.Holds(number)) << text;
      }
      for (const char* format : {"%.3f", "%.1f", "%.0f", "%g"}) {
        const std::string other = Text(format, number);
        EXPECT_TRUE(!regex.Matches(other) || bounds.Holds(std::stod(other))) << other;
      }
      if (thousandth % 1000 == 0) {
        EXPECT_EQ(regex.Matches(std::to_string(thousandth / 1000)), bounds.Holds(number)) << thousandth;
      }
    }
    for (const char* text : {"-0", "00", ".5", "1.", "-", "", "+1", "1e1", "01.5"}) {
      EXPECT_FALSE(regex.Matches(text)) << text;
    }
  }
}

TEST(NumberRange, ThrowsWhereThereIsNoNumberOrTooManyDigits) {
  EXPECT_THROW(static_cast<void>(NumberRangeRegex(NumberBound{2}, NumberBound{1})), std::runtime_error);
  EXPECT_THROW(static_cast<void>(NumberRangeRegex(NumberBound{1, true}, NumberBound{1})), std::runtime_error);
  EXPECT_THROW(static_cast<void>(NumberRangeRegex(NumberBound{0.1234567}, std::nullopt)), std::runtime_error);
  EXPECT_THROW(static_cast<void>(NumberRangeRegex(NumberBound{1e300}, std::nullopt)), std::runtime_error);
}

}  // namespace
}  // namespace naiad
