#include "guided/guide_check.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "guided/regex_dialect.h"

namespace naiad {
namespace {

// Documents have their properties in the order of the schema, which has to be kept.
using json = nlohmann::ordered_json;

struct SchemaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Rules of JSON Schema that the library would pass over, and so let through what they forbid.
constexpr std::array<std::string_view, 14> kNotEnforced = {"not",
                                                           "if",
                                                           "then",
                                                           "else",
                                                           "dependentRequired",
                                                           "dependentSchemas",
                                                           "dependencies",
                                                           "$dynamicRef",
                                                           "contains",
                                                           "minContains",
                                                           "maxContains",
                                                           "multipleOf",
                                                           "uniqueItems",
                                                           "additionalItems"};
constexpr std::array<std::string_view, 6> kCounts = {"minLength", "maxLength",     "minItems",
                                                     "maxItems",  "minProperties", "maxProperties"};
// Of these the library looks at the first alone, and at no other rule beside it.
constexpr std::array<std::string_view, 6> kWhole = {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"};
constexpr std::array<std::string_view, 22> kRules = {"type",
                                                     "properties",
                                                     "required",
                                                     "additionalProperties",
                                                     "unevaluatedProperties",
                                                     "minimum",
                                                     "patternProperties",
                                                     "propertyNames",
                                                     "minProperties",
                                                     "maxProperties",
                                                     "items",
                                                     "prefixItems",
                                                     "minItems",
                                                     "maxItems",
                                                     "unevaluatedItems",
                                                     "pattern",
                                                     "format",
                                                     "minLength",
                                                     "maxLength",
                                                     "exclusiveMinimum",
                                                     "maximum",
                                                     "exclusiveMaximum"};

[[noreturn]] void Fail(std::string_view keyword, const std::string& why) {
  throw SchemaError("\"" + std::string(keyword) + "\" " + why);
}

void CheckWhole(const json& schema) {
  const auto whole = std::find_if(kWhole.begin(), kWhole.end(), [&](auto key) { return schema.contains(key); });
  if (whole == kWhole.end()) return;
  const bool lists_values = *whole == "enum" || *whole == "const";
  for (const auto& keys : {std::span<const std::string_view>(kWhole), std::span<const std::string_view>(kRules)}) {
    for (const std::string_view key : keys) {
      if (key == *whole || !schema.contains(key) || (lists_values && key == "type")) continue;
      Fail(key, "beside \"" + std::string(*whole) + "\" cannot be enforced");
    }
  }
  if (schema.contains("allOf") && schema["allOf"].size() != 1) Fail("allOf", "of several schemas cannot be enforced");
}

void CheckReference(const json& schema, const json& root) {
  if (!schema.contains("$ref")) return;
  const std::string target = schema["$ref"].is_string() ? schema["$ref"].get<std::string>() : "";
  if (target != "#" && !target.starts_with("#/"))
    Fail("$ref", "must start with \"#\": only the schema itself can be referred to");
  try {
    if (!root.contains(json::json_pointer(target.substr(1)))) Fail("$ref", "leads nowhere: " + target);
  } catch (const json::exception&) {
    Fail("$ref", "leads nowhere: " + target);
  }
}

void CheckCounts(const json& schema) {
  for (const std::string_view key : kCounts) {
    if (!schema.contains(key)) continue;
    const json& count = schema[key];
    if (!count.is_number_unsigned() || count.get<uint64_t>() > static_cast<uint64_t>(kMaxGuideRepetition)) {
      Fail(key, "must be a whole number from 0 to " + std::to_string(kMaxGuideRepetition));
    }
  }
}

// The library takes one bound of a side, and whole numbers for integers.
void CheckBounds(const json& schema) {
  for (const auto& [inclusive, exclusive] :
       {std::pair("minimum", "exclusiveMinimum"), std::pair("maximum", "exclusiveMaximum")}) {
    if (schema.contains(inclusive) && schema.contains(exclusive)) {
      Fail(inclusive, "beside \"" + std::string(exclusive) + "\" cannot be enforced");
    }
    for (const char* key : {inclusive, exclusive}) {
      if (!schema.contains(key)) continue;
      if (!schema[key].is_number()) Fail(key, "must be a number");
      const bool is_for_integers =
          schema.contains("type") && schema["type"].dump().find("integer") != std::string::npos;
      if (is_for_integers && !schema[key].is_number_integer()) Fail(key, "must be a whole number for integers");
    }
  }
}

std::string TranslatePattern(const json& pattern, std::string_view key) {
  std::string translated;
  if (!pattern.is_string()) Fail(key, "must be a text");
  const Status status = TranslateRegex(pattern.get<std::string>(), RegexPlace::kJsonString, &translated);
  if (!status.ok()) Fail(key, status.message().substr(std::string_view("the expression ").size()));
  return translated;
}

void TranslatePatterns(json& schema) {
  if (schema.contains("pattern")) {
    for (const std::string_view key : {"format", "minLength", "maxLength"}) {
      if (schema.contains(key)) Fail(key, "beside \"pattern\" cannot be enforced");
    }
    schema["pattern"] = TranslatePattern(schema["pattern"], "pattern");
  }
  if (schema.contains("patternProperties")) {
    if (schema.contains("properties")) Fail("patternProperties", "beside \"properties\" cannot be enforced");
    json translated = json::object();
    for (const auto& [pattern, value] : schema["patternProperties"].items()) {
      translated[TranslatePattern(pattern, "patternProperties")] = value;
    }
    schema["patternProperties"] = std::move(translated);
  }
  if (schema.contains("format") && (schema.contains("minLength") || schema.contains("maxLength"))) {
    Fail("format", "beside a bound of the length cannot be enforced");
  }
}

// Checks the schema and those inside it, and rewrites their patterns. As deep as the text is nested, which is bounded.
void CheckSchema(json& schema, const json& root) {
  if (schema.is_boolean()) return;
  if (!schema.is_object()) throw SchemaError("a schema must be an object, true or false");
  for (const std::string_view key : kNotEnforced) {
    if (schema.contains(key) && schema[key] != false) Fail(key, "cannot be enforced");
  }
  CheckWhole(schema);
  CheckReference(schema, root);
  CheckCounts(schema);
  CheckBounds(schema);
  TranslatePatterns(schema);
  for (const char* key :
       {"items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames"}) {
    if (schema.contains(key)) CheckSchema(schema[key], root);
  }
  for (const char* key : {"properties", "patternProperties", "$defs", "definitions"}) {
    if (!schema.contains(key)) continue;
    if (!schema[key].is_object()) Fail(key, "must be an object");
    for (json& inner : schema[key]) CheckSchema(inner, root);
  }
  for (const char* key : {"prefixItems", "anyOf", "oneOf", "allOf"}) {
    if (!schema.contains(key)) continue;
    if (!schema[key].is_array() || schema[key].empty()) Fail(key, "must be a list of schemas");
    for (json& inner : schema[key]) CheckSchema(inner, root);
  }
}

Status CheckJsonSchema(const std::string& text, std::string* checked) try {
  const auto is_shallow = [](int depth, json::parse_event_t /*event*/, json& /*value*/) {
    if (depth > kMaxGuideNesting) throw SchemaError("nests deeper than " + std::to_string(kMaxGuideNesting));
    return true;
  };
  const json original = json::parse(text, is_shallow);
  if (!original.is_object()) return Status::InvalidArgument("the schema must be a JSON object");
  json schema = original;
  CheckSchema(schema, original);
  *checked = schema.dump();
  return Status::Ok();
} catch (const SchemaError& error) {
  return Status::InvalidArgument(std::string("the schema's ") + error.what());
} catch (const json::parse_error& error) {
  return Status::InvalidArgument("the schema is not valid JSON, at byte " + std::to_string(error.byte));
} catch (const json::exception& error) {
  return Status::InvalidArgument(std::string("the schema is wrong: ") + error.what());
}

}  // namespace

Status CheckGuide(const GuideSpec& guide, GuideSpec* checked) {
  checked->kind = guide.kind;
  if (guide.text.size() > kMaxGuideBytes) {
    return Status::InvalidArgument("has " + std::to_string(guide.text.size()) + " bytes; at most " +
                                   std::to_string(kMaxGuideBytes) + " are allowed");
  }
  switch (guide.kind) {
    case GuideSpec::Kind::kJsonSchema:
      return CheckJsonSchema(guide.text, &checked->text);
    case GuideSpec::Kind::kRegex:
      return TranslateRegex(guide.text, RegexPlace::kText, &checked->text);
    case GuideSpec::Kind::kJson:
      return Status::Ok();
  }
  return Status::Ok();
}

}  // namespace naiad
