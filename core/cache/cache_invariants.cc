#include "cache/cache_invariants.h"

#include <cstddef>
#include <span>

#include "cache/block_pool.h"

namespace naiad {
namespace {

// Notes `holder` for each block and reports blocks out of range or held twice.
void CountHolders(std::span<const int32_t> blocks, const std::string& holder, std::vector<std::string>* holders,
                  std::vector<std::string>* violations) {
  for (const int32_t block : blocks) {
    if (block < 0 || static_cast<size_t>(block) >= holders->size()) {
      violations->push_back(holder + " holds block " + std::to_string(block) + ", which is not in the pool");
      continue;
    }
    std::string& first = (*holders)[static_cast<size_t>(block)];
    if (first.empty()) {
      first = holder;
    } else {
      violations->push_back("block " + std::to_string(block) + " is held by " + first + " and by " + holder);
    }
  }
}

}  // namespace

std::vector<std::string> FindCacheViolations(const CacheSnapshot& snapshot) {
  std::vector<std::string> violations;
  std::vector<std::string> holders(static_cast<size_t>(snapshot.num_blocks));
  CountHolders(snapshot.free_blocks, "the free list", &holders, &violations);
  for (const SequenceBlocks& sequence : snapshot.sequences) {
    CountHolders(sequence.blocks, "sequence " + sequence.owner, &holders, &violations);
    const int32_t wanted = BlocksForPositions(sequence.cached_positions, snapshot.block_tokens);
    if (static_cast<size_t>(wanted) != sequence.blocks.size()) {
      violations.push_back("sequence " + sequence.owner + " has " + std::to_string(sequence.blocks.size()) +
                           " blocks; its " + std::to_string(sequence.cached_positions) + " cached positions take " +
                           std::to_string(wanted));
    }
  }
  for (size_t block = 0; block < holders.size(); ++block) {
    if (holders[block].empty()) violations.push_back("block " + std::to_string(block) + " is neither free nor owned");
  }
  return violations;
}

}  // namespace naiad
