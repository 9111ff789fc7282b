#include "guided/number_range.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace naiad {
namespace {

constexpr int kMostIntegerDigits = 18;
constexpr int kMostDigits = 15;  // Of a bound of numbers: what a double holds exactly.
constexpr int kMostBoundDecimals = 6;
constexpr int kMostDecimals = 15;

int64_t PowerOfTen(int exponent) {
  int64_t power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

std::string Group(const std::vector<std::string>& alternatives) {
  std::string group = "(";
  for (const std::string& alternative : alternatives) {
    if (group.size() > 1) group += '|';
    group += alternative;
  }
  return group += ')';
}

std::string DigitClass(char low, char high) {
  if (low == high) return {low};
  return {'[', low, '-', high, ']'};
}

std::string AnyDigits(size_t count) {
  return count == 0 ? "" : count == 1 ? "[0-9]" : std::string("[0-9]{").append(std::to_string(count)).append("}");
}

// Digit strings of one length, from `low` to `high`.
std::string DigitRange(std::string_view low, std::string_view high) {
  if (low.empty()) return "";
  const size_t rest = low.size() - 1;
  const std::string zeros(rest, '0');
  const std::string nines(rest, '9');
  if (low[0] == high[0]) {
    return std::string(1, low[0]).append(DigitRange(low.substr(1), high.substr(1)));
  }
  std::vector<std::string> parts;
  char first = low[0];
  char last = high[0];
  if (low.substr(1) != zeros) parts.push_back(std::string(1, first++).append(DigitRange(low.substr(1), nines)));
  const bool splits_high = high.substr(1) != nines;
  if (splits_high) --last;
  if (first <= last) parts.push_back(DigitClass(first, last).append(AnyDigits(rest)));
  if (splits_high) parts.push_back(std::string(1, high[0]).append(DigitRange(zeros, high.substr(1))));
  return parts.size() == 1 ? parts[0] : Group(parts);
}

// Whole numbers from `low` to `high`, neither negative.
void AddNaturalRange(int64_t low, int64_t high, std::string_view prefix, std::string_view suffix,
                     std::vector<std::string>* parts) {
  while (low <= high) {
    const std::string digits = std::to_string(low);
    const int64_t last = std::min(high, PowerOfTen(static_cast<int>(digits.size())) - 1);
    parts->push_back(std::string(prefix).append(DigitRange(digits, std::to_string(last))).append(suffix));
    low = last + 1;
  }
}

// A range of numbers that are not negative, in units of 10^-decimals.
struct ScaledRange {
  int decimals = 0;
  int64_t low = 0;
  bool low_is_exclusive = false;
  int64_t high = 0;
  bool high_is_exclusive = false;
};

std::string Padded(int64_t value, int digits) {
  std::string text = std::to_string(value);
  return text.insert(0, static_cast<size_t>(digits) - text.size(), '0');
}

// Numbers whose first digits, down to the unit, are from `low` to `high`, and which go on with `tail`.
void AddDecimals(int64_t low, int64_t high, int decimals, std::string_view prefix, std::string_view tail,
                 std::vector<std::string>* parts) {
  if (low > high) return;
  const std::string point = "\\.";
  const std::string any_tail = std::string(point).append(AnyDigits(static_cast<size_t>(decimals))).append(tail);
  if (decimals == 0) return AddNaturalRange(low, high, prefix, any_tail, parts);
  const int64_t unit = PowerOfTen(decimals);
  const auto add_part = [&](int64_t whole, int64_t first, int64_t last) {
    parts->push_back(std::string(prefix)
                         .append(std::to_string(whole))
                         .append(point)
                         .append(DigitRange(Padded(first, decimals), Padded(last, decimals)))
                         .append(tail));
  };
  if (low / unit == high / unit) return add_part(low / unit, low % unit, high % unit);
  add_part(low / unit, low % unit, unit - 1);
  AddNaturalRange(low / unit + 1, high / unit - 1, prefix, any_tail, parts);
  add_part(high / unit, 0, high % unit);
}

void AddRange(const ScaledRange& range, std::string_view prefix, std::vector<std::string>* parts) {
  const int64_t unit = PowerOfTen(range.decimals);
  const int64_t first = range.low_is_exclusive ? range.low / unit + 1 : (range.low + unit - 1) / unit;
  const int64_t last = range.high_is_exclusive ? (range.high - 1 + unit) / unit - 1 : range.high / unit;
  AddNaturalRange(first, last, prefix, "", parts);
  const int more = kMostDecimals - range.decimals;
  // A point is followed by a digit at least.
  const std::string least = range.decimals == 0 ? "1" : "0";
  const std::string tail = "[0-9]{" + least + "," + std::to_string(more) + "}";
  AddDecimals(range.low + (range.low_is_exclusive ? 1 : 0), range.high - 1, range.decimals, prefix, tail, parts);
  if (range.low_is_exclusive && range.low < range.high) {
    const std::string not_zero = "0{0," + std::to_string(more - 1) + "}[1-9][0-9]{0," + std::to_string(more - 1) + "}";
    AddDecimals(range.low, range.low, range.decimals, prefix, not_zero, parts);
  }
  if (range.decimals > 0 && !range.high_is_exclusive && (range.low < range.high || !range.low_is_exclusive)) {
    AddDecimals(range.high, range.high, range.decimals, prefix, "", parts);
  }
}

int DecimalsOf(double value) {
  for (int decimals = 0; decimals <= kMostBoundDecimals; ++decimals) {
    const auto unit = static_cast<double>(PowerOfTen(decimals));
    const double scaled = std::round(value * unit);
    if (std::abs(scaled) >= static_cast<double>(PowerOfTen(kMostDigits))) break;
    if (scaled / unit == value) return decimals;
  }
  throw std::runtime_error("a bound of numbers has more than 15 digits, or more than 6 after the point");
}

int64_t Scaled(double value, int decimals) {
  const double scaled = std::round(value * static_cast<double>(PowerOfTen(decimals)));
  if (std::abs(scaled) >= static_cast<double>(PowerOfTen(kMostIntegerDigits))) {
    throw std::runtime_error("the bounds of numbers have too many digits together");
  }
  return static_cast<int64_t>(scaled);
}

std::string WholeRegex(const std::vector<std::string>& parts) {
  if (parts.empty()) throw std::runtime_error("no number is in the range that the schema gives");
  return Group(parts);
}

}  // namespace

std::string IntegerRangeRegex(std::optional<int64_t> low, std::optional<int64_t> high) {
  const int64_t most = PowerOfTen(kMostIntegerDigits) - 1;
  const int64_t first = std::max(low.value_or(-most), -most);
  const int64_t last = std::min(high.value_or(most), most);
  std::vector<std::string> parts;
  if (first < 0) AddNaturalRange(std::max<int64_t>(1, -last), -first, "-", "", &parts);
  if (last >= 0) AddNaturalRange(std::max<int64_t>(0, first), last, "", "", &parts);
  return WholeRegex(parts);
}

std::string NumberRangeRegex(std::optional<NumberBound> low, std::optional<NumberBound> high) {
  const int decimals = std::max(low ? DecimalsOf(low->value) : 0, high ? DecimalsOf(high->value) : 0);
  // As many digits before the point as leave room for the decimals in 64 bits.
  const int64_t most = PowerOfTen(std::min(kMostDigits + decimals, kMostIntegerDigits)) - 1;
  const int64_t first = low ? Scaled(low->value, decimals) : -most;
  const int64_t last = high ? Scaled(high->value, decimals) : most;
  const bool skips_first = low && low->is_exclusive;
  const bool skips_last = high && high->is_exclusive;
  std::vector<std::string> parts;
  if (first < 0 && first <= last) {
    // Mirrored; zero is left to the other half.
    AddRange({.decimals = decimals,
              .low = std::max<int64_t>(0, -last),
              .low_is_exclusive = last >= 0 || skips_last,
              .high = -first,
              .high_is_exclusive = skips_first},
             "-", &parts);
  }
  if (last >= 0 && first <= last) {
    AddRange({.decimals = decimals,
              .low = std::max<int64_t>(0, first),
              .low_is_exclusive = first >= 0 && skips_first,
              .high = last,
              .high_is_exclusive = skips_last},
             "", &parts);
  }
  return WholeRegex(parts);
}

}  // namespace naiad
