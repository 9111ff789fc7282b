// Regular expressions for the numbers of a range, as JSON writes them. They take the place of the library's, which let
// in numbers beyond the bounds (xgrammar.cmake).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace naiad {

// Whole numbers from `low` to `high`, both included; an absent bound means 18 digits at most. Throws std::runtime_error
// if there is none.
[[nodiscard]] std::string IntegerRangeRegex(std::optional<int64_t> low, std::optional<int64_t> high);

struct NumberBound {
  double value = 0.0;  // With 15 digits at most, 6 of them after the point.
  bool is_exclusive = false;
};

// Numbers from `low` to `high` in decimal notation; an absent bound means 15 digits before the point at most. Between
// two whole numbers, a number is written with at least as many digits after the point as the bounds need. Throws
// std::runtime_error if there is none or a bound has too many digits.
[[nodiscard]] std::string NumberRangeRegex(std::optional<NumberBound> low, std::optional<NumberBound> high);

// NumberRangeRegex as the library has the bounds: each with the exclusive one beside it, which it equals if that is
// there.
[[nodiscard]] inline std::string LibraryNumberRange(std::optional<double> low, std::optional<double> exclusive_low,
                                                    std::optional<double> high, std::optional<double> exclusive_high) {
  const auto bound = [](std::optional<double> value, bool is_exclusive) -> std::optional<NumberBound> {
    return value ? std::optional<NumberBound>({*value, is_exclusive}) : std::nullopt;
  };
  return NumberRangeRegex(bound(low, exclusive_low.has_value()), bound(high, exclusive_high.has_value()));
}

}  // namespace naiad
