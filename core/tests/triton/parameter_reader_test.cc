#include "triton/parameter_reader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace naiad {
namespace {

// Message of Finish after reading "x" as the given kind.
std::string ErrorOf(ParameterValue value, const std::string& kind) {
  const std::vector<RequestParameter> parameters = {{"x", std::move(value)}};
  ParameterReader reader(parameters);
  if (kind == "int32") static_cast<void>(reader.Int32("x", 0));
  if (kind == "int64") static_cast<void>(reader.Int64("x", 0));
  if (kind == "float") static_cast<void>(reader.Float("x", 0.0F));
  if (kind == "bool") static_cast<void>(reader.Bool("x", false));
  if (kind == "text") static_cast<void>(reader.Text("x", ""));
  return reader.Finish().message();
}

TEST(ParameterReader, AbsentParametersGiveTheirDefaults) {
  const std::vector<RequestParameter> none;
  ParameterReader reader(none);
  EXPECT_EQ(reader.Int32("a", 7), 7);
  EXPECT_EQ(reader.Float("b", 0.5F), 0.5F);
  EXPECT_TRUE(reader.Bool("c", true));
  EXPECT_EQ(reader.Text("d", "mean"), "mean");
  EXPECT_TRUE(reader.Finish().ok());
}

TEST(ParameterReader, AnIntegerIsTakenForANumber) {
  const std::vector<RequestParameter> parameters = {{"temperature", int64_t{1}}};
  ParameterReader reader(parameters);
  EXPECT_EQ(reader.Float("temperature", 0.0F), 1.0F);
  EXPECT_TRUE(reader.Finish().ok());
}

TEST(ParameterReader, NamesTheParameterOfTheWrongKind) {
  EXPECT_EQ(ErrorOf(std::string("1"), "int32"), "x must be an integer parameter");
  EXPECT_EQ(ErrorOf(1.0, "int64"), "x must be an integer parameter");
  EXPECT_EQ(ErrorOf(true, "float"), "x must be a number parameter");
  EXPECT_EQ(ErrorOf(int64_t{1}, "bool"), "x must be a bool parameter");
  EXPECT_EQ(ErrorOf(false, "text"), "x must be a string parameter");
}

TEST(ParameterReader, RefusesWhatDoesNotFit) {
  EXPECT_EQ(ErrorOf(int64_t{1} << 31, "int32"), "x is 2147483648; it must fit 32 bits");
  EXPECT_EQ(ErrorOf(std::nan(""), "float"), "x must be a finite number");
  EXPECT_EQ(ErrorOf(std::numeric_limits<double>::infinity(), "float"), "x must be a finite number");
  EXPECT_EQ(ErrorOf(1e300, "float"), "x must be a finite number");
}

TEST(ParameterReader, RefusesAnUnknownParameterByName) {
  EXPECT_EQ(ErrorOf(int64_t{1}, "nothing"), "x is not a known parameter");
}

TEST(ParameterReader, IgnoresParametersReservedByTriton) {
  const std::vector<RequestParameter> parameters = {
      {"triton_enable_empty_final_response", true}, {"timeout", int64_t{5}}, {"priority", int64_t{1}}};
  ParameterReader reader(parameters);
  EXPECT_TRUE(reader.Finish().ok());
}

}  // namespace
}  // namespace naiad
