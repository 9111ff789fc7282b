#include "cache/cache_invariants.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "cache/block_pool.h"

namespace naiad {
namespace {

// What is known of one block.
struct BlockFacts {
  int32_t tables = 0;
  int32_t free = 0;
  int32_t cached = 0;
  int32_t turn = 0;  // Place in the order in which cached blocks are taken.
  bool is_remembered = false;
};

class Checker {
 public:
  explicit Checker(const CacheSnapshot& snapshot)
      : snapshot_(snapshot), facts_(static_cast<size_t>(snapshot.num_blocks)) {}

  std::vector<std::string> Run() {
    CollectFacts();
    for (size_t block = 0; block < facts_.size(); ++block) CheckBlock(block);
    for (const SequenceBlocks& sequence : snapshot_.sequences) CheckSequence(sequence);
    for (const RememberedBlock& remembered : snapshot_.remembered) CheckRemembered(remembered);
    return std::move(violations_);
  }

 private:
  // Null, and a violation, if the block is not in the pool.
  BlockFacts* FactsOf(int32_t block, const std::string& holder) {
    if (block >= 0 && static_cast<size_t>(block) < facts_.size()) return &facts_[static_cast<size_t>(block)];
    violations_.push_back(holder + " holds block " + std::to_string(block) + ", which is not in the pool");
    return nullptr;
  }

  void CollectFacts() {
    for (const int32_t block : snapshot_.free_blocks) {
      if (BlockFacts* facts = FactsOf(block, "the free list")) ++facts->free;
    }
    int32_t turn = 0;
    for (const int32_t block : snapshot_.cached_blocks) {
      BlockFacts* facts = FactsOf(block, "the list of cached blocks");
      if (facts == nullptr) continue;
      ++facts->cached;
      facts->turn = turn++;
    }
    for (const RememberedBlock& remembered : snapshot_.remembered) {
      if (BlockFacts* facts = FactsOf(remembered.block, "the prefix index")) facts->is_remembered = true;
    }
    for (const SequenceBlocks& sequence : snapshot_.sequences) {
      for (const int32_t block : sequence.blocks) {
        if (BlockFacts* facts = FactsOf(block, "sequence " + sequence.owner)) ++facts->tables;
      }
    }
  }

  void CheckBlock(size_t block) {
    const BlockFacts& facts = facts_[block];
    const std::string name = "block " + std::to_string(block);
    if (facts.free + facts.cached + std::min(facts.tables, 1) != 1) {
      violations_.push_back(name + " is " + std::to_string(facts.free) + " times free, " +
                            std::to_string(facts.cached) + " times cached and in " + std::to_string(facts.tables) +
                            " tables");
    }
    if (snapshot_.holders[block] != facts.tables) {
      violations_.push_back(name + " has " + std::to_string(snapshot_.holders[block]) + " holders, but is in " +
                            std::to_string(facts.tables) + " tables");
    }
    if (facts.cached > 0 && !facts.is_remembered) violations_.push_back(name + " is cached, but not remembered");
    if (facts.free > 0 && facts.is_remembered) violations_.push_back(name + " is free, but remembered");
  }

  void CheckSequence(const SequenceBlocks& sequence) {
    const int32_t wanted = BlocksForPositions(sequence.cached_positions, snapshot_.block_tokens);
    if (static_cast<size_t>(wanted) != sequence.blocks.size()) {
      violations_.push_back("sequence " + sequence.owner + " has " + std::to_string(sequence.blocks.size()) +
                            " blocks; its " + std::to_string(sequence.cached_positions) + " cached positions take " +
                            std::to_string(wanted));
    }
    std::vector<int32_t> blocks = sequence.blocks;
    std::ranges::sort(blocks);
    if (std::ranges::adjacent_find(blocks) != blocks.end()) {
      violations_.push_back("sequence " + sequence.owner + " has a block twice");
    }
  }

  void CheckRemembered(const RememberedBlock& remembered) {
    if (remembered.previous == PrefixIndex::kNoBlock) return;
    const BlockFacts* previous = FactsOf(remembered.previous, "the prefix index");
    const BlockFacts* block = FactsOf(remembered.block, "the prefix index");
    if (previous == nullptr || block == nullptr) return;
    const std::string names =
        "block " + std::to_string(remembered.block) + " follows block " + std::to_string(remembered.previous);
    if (!previous->is_remembered) violations_.push_back(names + ", which is not remembered");
    if (previous->cached > 0 && (block->cached == 0 || block->turn > previous->turn)) {
      violations_.push_back(names + ", which is taken first");
    }
  }

  const CacheSnapshot& snapshot_;
  std::vector<BlockFacts> facts_;
  std::vector<std::string> violations_;
};

}  // namespace

std::vector<std::string> FindCacheViolations(const CacheSnapshot& snapshot) { return Checker(snapshot).Run(); }

}  // namespace naiad
