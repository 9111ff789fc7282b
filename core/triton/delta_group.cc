#include "triton/delta_group.h"

#include "triton/generation_codec.h"
#include "triton/response_stream.h"

namespace naiad {

void DeltaGroup::Add(ResponseStream& member, int32_t key, int32_t position, const TokenDelta& delta) {
  entries_.push_back({.member = &member, .key = key, .sequence_index = delta.sequence_index, .position = position});
  token_ids_.insert(token_ids_.end(), delta.token_ids.begin(), delta.token_ids.end());
  entries_.back().count = static_cast<int32_t>(delta.token_ids.size());  // Last: memory may have run out before.
}

void DeltaGroup::Flush() {
  if (entries_.empty()) return;
  const bool all_sent = Send(*entries_.front().member, 0, entries_.size(), 0);
  size_t first_token = 0;
  for (size_t index = 0; index < entries_.size(); ++index) {
    const Entry& entry = entries_[index];
    entry.member->OnDeltaLeft(all_sent || Send(*entry.member, index, index + 1, first_token));
    first_token += static_cast<size_t>(entry.count);
  }
  entries_.clear();
  token_ids_.clear();
}

bool DeltaGroup::Send(ResponseStream& carrier, size_t first, size_t last, size_t first_token) {
  message_.clear();
  auto end = token_ids_.begin() + static_cast<std::ptrdiff_t>(first_token);
  const auto begin = end;
  for (size_t index = first; index < last; ++index) {
    const Entry& entry = entries_[index];
    message_.insert(message_.end(), {entry.key, entry.sequence_index, entry.position, entry.count});
    end += entry.count;
  }
  message_.insert(message_.end(), begin, end);
  return carrier.Send(EncodeDeltas(message_, static_cast<int64_t>(last - first)));
}

std::shared_ptr<DeltaGroup> DeltaGroups::Get(const std::string& name) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(groups_, [](const auto& named) { return named.second.expired(); });
  std::weak_ptr<DeltaGroup>& known = groups_[name];
  std::shared_ptr<DeltaGroup> group = known.lock();
  if (group == nullptr) known = group = std::make_shared<DeltaGroup>();
  return group;
}

}  // namespace naiad
