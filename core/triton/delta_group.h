// New tokens of many requests of one client, sent together: one response a step instead of one a request.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace naiad {

class ResponseStream;

// Gathers what its members deliver in one step. By the engine thread only; who drops the last reference may be anybody.
class DeltaGroup {
 public:
  // Takes the tokens of `delta`, of which its sequence had `position` before. `member` stays alive until the flush;
  // `key` is its number in the group.
  void Add(ResponseStream& member, int32_t key, int32_t position, const TokenDelta& delta);
  // Sends what was gathered, if anything, as a response of the first member that delivered. If that fails, each member
  // sends its own part, and one that cannot do so is told.
  void Flush();

 private:
  struct Entry {
    ResponseStream* member = nullptr;
    int32_t key = 0;
    int32_t sequence_index = 0;
    int32_t position = 0;
    int32_t count = 0;
  };

  // The entries `first` .. `last`-1, whose tokens begin at `first_token`, as a response of `carrier`; whether it went.
  bool Send(ResponseStream& carrier, size_t first, size_t last, size_t first_token);

  std::vector<Entry> entries_;
  std::vector<int32_t> token_ids_;  // Of all entries, one after the other.
  std::vector<int32_t> message_;    // Kept for its memory.
};

// The groups that have members, by name. Thread-safe.
class DeltaGroups {
 public:
  std::shared_ptr<DeltaGroup> Get(const std::string& name);

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::weak_ptr<DeltaGroup>> groups_;
};

}  // namespace naiad
