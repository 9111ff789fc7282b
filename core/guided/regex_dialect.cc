#include "guided/regex_dialect.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "guided/guide_check.h"

namespace naiad {
namespace {

using Range = std::pair<char32_t, char32_t>;  // Both ends included.
constexpr char32_t kLastCodePoint = 0x10FFFF;

struct RegexError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Disjoint, ascending, not touching.
class CharacterSet {
 public:
  CharacterSet() = default;
  explicit CharacterSet(std::vector<Range> ranges) : ranges_(std::move(ranges)) { Normalise(); }

  void Add(const CharacterSet& other) {
    ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
    Normalise();
  }

  [[nodiscard]] CharacterSet Complement() const {
    CharacterSet result;
    char32_t next = 0;
    for (const auto& [low, high] : ranges_) {
      if (low > next) result.ranges_.emplace_back(next, low - 1);
      next = high + 1;
    }
    if (next <= kLastCodePoint) result.ranges_.emplace_back(next, kLastCodePoint);
    return result;
  }

  [[nodiscard]] CharacterSet Without(const CharacterSet& other) const {
    CharacterSet outside = Complement();
    outside.Add(other);
    return outside.Complement();
  }

  [[nodiscard]] const std::vector<Range>& ranges() const { return ranges_; }

 private:
  void Normalise() {
    std::sort(ranges_.begin(), ranges_.end());
    std::vector<Range> merged;
    for (const Range& range : ranges_) {
      if (!merged.empty() && range.first <= merged.back().second + 1) {
        merged.back().second = std::max(merged.back().second, range.second);
      } else {
        merged.push_back(range);
      }
    }
    ranges_ = std::move(merged);
  }

  std::vector<Range> ranges_;
};

const CharacterSet& Digits() {
  static const CharacterSet set({{'0', '9'}});
  return set;
}
const CharacterSet& WordCharacters() {
  static const CharacterSet set({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
  return set;
}
const CharacterSet& Blanks() {
  static const CharacterSet set({{'\t', '\r'}, {' ', ' '}, {0xA0, 0xA0}});
  return set;
}
const CharacterSet& LineBreaks() {
  static const CharacterSet set({{'\n', '\n'}, {'\r', '\r'}});
  return set;
}
// What stands in a JSON string only as an escape.
const CharacterSet& JsonEscaped() {
  static const CharacterSet set({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}});
  return set;
}

std::u32string DecodeUtf8(std::string_view text) {
  std::u32string decoded;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0 || i + length > text.size()) throw RegexError("is not valid UTF-8");
    char32_t code = length == 1 ? lead : lead & (0x7FU >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<uint8_t>(text[i + k]);
      if ((next & 0xC0U) != 0x80U) throw RegexError("is not valid UTF-8");
      code = code << 6U | (next & 0x3FU);
    }
    decoded += code;
    i += length;
  }
  return decoded;
}

bool IsAlphanumeric(char32_t code) {
  return (code >= '0' && code <= '9') || (code >= 'A' && code <= 'Z') || (code >= 'a' && code <= 'z');
}

// A character as any place of the library's expressions takes it.
std::string Spell(char32_t code) {
  if (IsAlphanumeric(code)) return {static_cast<char>(code)};
  char text[16];
  const int size = std::snprintf(text, sizeof text, "\\u{%X}", static_cast<unsigned>(code));
  return {text, static_cast<size_t>(size)};
}

std::string SpellSet(const CharacterSet& set) {
  std::vector<Range> ranges = set.ranges();
  if (ranges.empty()) throw RegexError("has a character class that matches nothing");
  if (ranges.size() == 1 && ranges[0].first == ranges[0].second) return Spell(ranges[0].first);
  // The library would take a leading '^' for a negation however it is spelled, so it goes last.
  if (ranges[0].first == '^') {
    if (ranges[0].second > '^') ranges.emplace_back(ranges[0].first + 1, ranges[0].second);
    ranges.emplace_back('^', '^');
    ranges.erase(ranges.begin());
  }
  std::string text = "[";
  for (const auto& [low, high] : ranges) {
    text += Spell(low);
    if (high != low) text.append("-").append(Spell(high));
  }
  return text + "]";
}

class Translator {
 public:
  Translator(std::string_view regex, RegexPlace place) : text_(DecodeUtf8(regex)), place_(place) {}

  std::string Run() {
    while (!AtEnd()) Next();
    if (depth_ > 0) throw RegexError("has a group that is not closed");
    EndAlternative();
    return std::move(result_);
  }

 private:
  [[nodiscard]] bool AtEnd() const { return position_ == text_.size(); }
  [[nodiscard]] char32_t Peek() const { return AtEnd() ? U'\0' : text_[position_]; }
  bool TakeIf(std::u32string_view token) {
    if (text_.compare(position_, token.size(), token) != 0) return false;
    position_ += token.size();
    return true;
  }
  char32_t Take() {
    if (AtEnd()) throw RegexError("ends in the middle of an escape or a class");
    return text_[position_++];
  }

  void Next() {
    const char32_t code = Take();
    switch (code) {
      case '(':
        return OpenGroup();
      case ')':
        return CloseGroup();
      case '|':
        EndAlternative();
        result_ += '|';
        has_atom_ = false;
        return;
      case '^':
        if (depth_ > 0 || has_atom_) throw RegexError("has ^ elsewhere than at its beginning");
        return;
      case '$':
        if (depth_ > 0 || (!AtEnd() && Peek() != '|')) throw RegexError("has $ elsewhere than at its end");
        return;
      case '*':
      case '+':
      case '?':
        return Repeat(std::string(1, static_cast<char>(code)));
      case '{':
        return Repeat(TakeBounds());
      case '[':
        return AddAtom(SpellSet(Allowed(TakeClass())));
      case '.':
        return AddAtom(SpellSet(Allowed(LineBreaks().Complement())));
      case '\\':
        return TakeEscape();
      default:
        return AddLiteral(code);
    }
  }

  void AddAtom(const std::string& atom) {
    result_ += atom;
    has_atom_ = can_repeat_ = true;
  }

  void AddLiteral(char32_t code) {
    const CharacterSet literal({{code, code}});
    if (Allowed(literal).ranges().empty()) {
      throw RegexError("has a quote, a backslash or a control character, which is not supported in a JSON string");
    }
    AddAtom(SpellSet(literal));
  }

  [[nodiscard]] CharacterSet Allowed(const CharacterSet& set) const {
    return place_ == RegexPlace::kText ? set : set.Without(JsonEscaped());
  }

  void OpenGroup() {
    if (Peek() == '?' && !TakeIf(U"?:")) {
      if (!TakeIf(U"?P<") && !TakeIf(U"?<")) throw RegexError("has a group with (?, of which only (?: is supported");
      if (Peek() == '=' || Peek() == '!') throw RegexError("looks behind, which is not supported");
      while (Take() != '>') {
      }
    }
    if (++depth_ > kMaxGuideNesting) {
      throw RegexError("nests groups deeper than " + std::to_string(kMaxGuideNesting));
    }
    result_ += '(';
    has_atom_ = can_repeat_ = false;
  }

  void CloseGroup() {
    if (depth_ == 0) throw RegexError("closes a group that is not open");
    EndAlternative();
    --depth_;
    AddAtom(")");
  }

  // The library knows no empty alternatives, but the whole may be empty.
  void EndAlternative() {
    if (!has_atom_ && !text_.empty())
      throw RegexError("has an empty group or alternative; use ? for what may be absent");
    can_repeat_ = false;
  }

  void Repeat(const std::string& quantifier) {
    if (!can_repeat_) throw RegexError("has a repetition of nothing or of a repetition");
    if (Peek() == '?') ++position_;  // Lazy or not, the same texts match.
    result_ += quantifier;
    can_repeat_ = false;
  }

  int64_t TakeCount() {
    std::string digits;
    while (Peek() >= '0' && Peek() <= '9') digits += static_cast<char>(Take());
    int64_t count = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
    if (digits.empty()) throw RegexError("has { without a count; escape it if it is meant");
    if (error != std::errc() || count > kMaxGuideRepetition) {
      throw RegexError("repeats more than " + std::to_string(kMaxGuideRepetition) + " times");
    }
    return count;
  }

  std::string TakeBounds() {
    const int64_t low = TakeCount();
    std::string bounds = "{";
    bounds += std::to_string(low);
    if (TakeIf(U",")) {
      bounds += ",";
      if (Peek() != '}') {
        const int64_t high = TakeCount();
        if (high < low) throw RegexError("repeats at least " + std::to_string(low) + " and at most fewer times");
        bounds += std::to_string(high);
      }
    }
    if (!TakeIf(U"}")) throw RegexError("has { without }");
    return bounds + "}";
  }

  // After the backslash: a class such as \d, or nothing and the position unchanged.
  std::optional<CharacterSet> TakeShorthand() {
    const char32_t code = Peek();
    const CharacterSet* set = code == 'd' || code == 'D'   ? &Digits()
                              : code == 'w' || code == 'W' ? &WordCharacters()
                              : code == 's' || code == 'S' ? &Blanks()
                                                           : nullptr;
    if (set == nullptr) return std::nullopt;
    ++position_;
    return code >= 'a' ? *set : set->Complement();
  }

  char32_t TakeHex(size_t digits) {
    char32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char32_t code = Take();
      const bool is_letter = (code >= 'a' && code <= 'f') || (code >= 'A' && code <= 'F');
      if (!is_letter && !(code >= '0' && code <= '9')) throw RegexError("has \\x or \\u without its digits");
      value = value * 16 + (is_letter ? (code | 0x20U) - 'a' + 10 : code - '0');
    }
    return value;
  }

  // After the backslash: the one character that the escape stands for.
  char32_t TakeEscapedCharacter() {
    const char32_t code = Take();
    constexpr std::u32string_view kLetters = U"nrtfv0";
    constexpr std::u32string_view kMeanings{U"\n\r\t\f\v\0", 6};
    if (const size_t found = kLetters.find(code); found != std::u32string_view::npos) return kMeanings[found];
    if (code == 'x') return TakeHex(2);
    if (code == 'u') {
      const char32_t value = TakeHex(4);
      if (value >= 0xD800 && value < 0xE000) throw RegexError("has a \\u of half a character");
      return value;
    }
    if (IsAlphanumeric(code))
      throw RegexError(std::string("has \\") + static_cast<char>(code) + ", which is not supported");
    return code;
  }

  void TakeEscape() {
    if (const std::optional<CharacterSet> set = TakeShorthand()) return AddAtom(SpellSet(Allowed(*set)));
    AddLiteral(TakeEscapedCharacter());
  }

  // After the bracket.
  CharacterSet TakeClass() {
    const bool is_negated = TakeIf(U"^");
    CharacterSet set;
    for (bool first = true; first || Peek() != ']'; first = false) {
      if (TakeIf(U"\\")) {
        if (const std::optional<CharacterSet> shorthand = TakeShorthand()) {
          set.Add(*shorthand);
          continue;
        }
        --position_;
      }
      const char32_t low = TakeClassCharacter();
      char32_t high = low;
      if (Peek() == '-' && position_ + 1 < text_.size() && text_[position_ + 1] != ']') {
        ++position_;
        high = TakeClassCharacter();
      }
      if (high < low) throw RegexError("has a character range that runs backwards");
      set.Add(CharacterSet({{low, high}}));
    }
    ++position_;
    return is_negated ? set.Complement() : set;
  }

  char32_t TakeClassCharacter() {
    const char32_t code = Take();
    return code == '\\' ? TakeEscapedCharacter() : code;
  }

  const std::u32string text_;
  const RegexPlace place_;
  size_t position_ = 0;
  int depth_ = 0;
  bool has_atom_ = false;    // In the alternative so far.
  bool can_repeat_ = false;  // The last thing may take a repetition.
  std::string result_;
};

}  // namespace

Status TranslateRegex(std::string_view regex, RegexPlace place, std::string* translated) try {
  *translated = Translator(regex, place).Run();
  return Status::Ok();
} catch (const RegexError& error) {
  return Status::InvalidArgument(std::string("the expression ") + error.what());
}

}  // namespace naiad
