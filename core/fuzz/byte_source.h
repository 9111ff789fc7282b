// Choices made by the bytes of a fuzzer, so that what it changes in them changes the test in an orderly way. Like
// libFuzzer's FuzzedDataProvider, but with any compiler, so that a corpus can be replayed in every build.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace naiad::fuzz {

// Takes from the front; when the bytes are used up, each choice is the first there is.
class ByteSource {
 public:
  ByteSource(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // The next bytes, fewer at the end.
  std::vector<unsigned char> Take(size_t count) {
    count = std::min(count, size_);
    std::vector<unsigned char> taken(data_, data_ + count);
    data_ += count;
    size_ -= count;
    return taken;
  }

  // Any value of a number's type, its bytes as they come: of a real one not-a-number and infinity, too.
  template <typename Number>
  Number Any() {
    const std::vector<unsigned char> bytes = Take(sizeof(Number));
    Number number{};
    if (!bytes.empty()) std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }

  // From `low` to `high`, both included; at most 256 of them take one byte.
  int64_t Number(int64_t low, int64_t high) {
    const auto choices = static_cast<uint64_t>(high - low) + 1;
    const uint64_t drawn = choices <= 256 ? Any<uint8_t>() : Any<uint32_t>();
    return low + static_cast<int64_t>(drawn % choices);
  }

  size_t Size(size_t most) { return static_cast<size_t>(Number(0, static_cast<int64_t>(most))); }
  bool Flag() { return Number(0, 1) == 1; }

  std::string Text(size_t most_bytes) {
    const std::vector<unsigned char> bytes = Take(Size(most_bytes));
    return {bytes.begin(), bytes.end()};
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace naiad::fuzz
