#include "services/attention/block_pool.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "xxhash.h"

namespace orrery {

BlockPool::BlockPool(const BlockPoolOptions& options)
    : options_(options), blocks_(options.num_blocks) {
  // Lowest ids are taken first.
  for (int32_t id = options.num_blocks - 1; id >= 0; --id) free_.push_back(id);
}

PrefixChain BlockPool::Root(std::string_view salt) const {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(salt.data(), salt.size(), options_.hash_key);
  return {.low = hash.low64, .high = hash.high64, .entry = 0};
}

BlockPool::Hash BlockPool::HashOf(const PrefixChain& chain, absl::Span<const int32_t> ids) const {
  // Seeding the block's hash with the key and half of the chain, and mixing the other half in behind, keeps
  // the whole chain in both halves of the result.
  const XXH128_hash_t block = XXH3_128bits_withSeed(ids.data(), ids.size() * sizeof(int32_t),
                                                    options_.hash_key ^ chain.low);
  const uint64_t parts[] = {block.low64, block.high64, chain.low, chain.high};
  const XXH128_hash_t all = XXH3_128bits_withSeed(parts, sizeof(parts), options_.hash_key);
  return {.low = all.low64, .high = all.high64};
}

int32_t BlockPool::Find(std::string_view salt, const PrefixChain& chain, const Hash& hash,
                        absl::Span<const int32_t> ids) const {
  const auto found = known_.find(hash);
  if (found == known_.end()) return -1;
  const Block& block = blocks_[found->second];
  const bool is_same = block.parent_entry == chain.entry &&
                       (chain.entry != 0 || block.salt == salt) &&
                       std::equal(ids.begin(), ids.end(), block.ids.begin(), block.ids.end());
  return is_same ? found->second : -1;
}

template <typename Visitor>
void BlockPool::Walk(std::string_view salt, absl::Span<const int32_t> ids, Visitor visit) const {
  if (!options_.keep_prefixes) return;
  PrefixChain chain = Root(salt);
  const size_t size = options_.block_tokens;
  for (size_t begin = 0; begin + size <= ids.size(); begin += size) {
    const absl::Span<const int32_t> block_ids = ids.subspan(begin, size);
    const Hash hash = HashOf(chain, block_ids);
    const int32_t id = Find(salt, chain, hash, block_ids);
    if (id < 0) return;
    chain = {.low = hash.low, .high = hash.high, .entry = blocks_[id].entry};
    visit(id, chain);
  }
}

int BlockPool::Match(std::string_view salt, absl::Span<const int32_t> ids, BlockList& blocks) {
  ORRERY_CHECK(blocks.ids.empty()) << blocks.ids.size() << " blocks in a list to be filled";
  Walk(salt, ids, [&](int32_t id, const PrefixChain& chain) {
    blocks.ids.push_back(id);
    blocks.chain = chain;
  });
  for (const int32_t id : blocks.ids) AddReference(id);
  blocks.num_known = static_cast<int>(blocks.ids.size());
  return blocks.num_known * options_.block_tokens;
}

PrefixFound BlockPool::Peek(std::string_view salt, absl::Span<const int32_t> ids) const {
  PrefixFound found;
  Walk(salt, ids, [&](int32_t id, const PrefixChain&) {
    found.num_tokens += options_.block_tokens;
    found.num_used_blocks += blocks_[id].num_references > 0;
  });
  return found;
}

bool BlockPool::Reserve(int num_tokens, BlockList& blocks) {
  const int needed = (num_tokens + options_.block_tokens - 1) / options_.block_tokens;
  const int more = needed - static_cast<int>(blocks.ids.size());
  if (more > num_free()) return false;
  for (int i = 0; i < more; ++i) {
    const int32_t id = TakeFree();
    AddReference(id);
    blocks.ids.push_back(id);
  }
  return true;
}

void BlockPool::Publish(std::string_view salt, absl::Span<const int32_t> ids, int num_computed,
                        BlockList& blocks) {
  if (!options_.keep_prefixes) return;
  const size_t size = options_.block_tokens;
  for (; (blocks.num_known + 1) * size <= static_cast<size_t>(num_computed); ++blocks.num_known) {
    PrefixChain& chain = blocks.chain;
    if (blocks.num_known == 0) chain = Root(salt);
    const absl::Span<const int32_t> block_ids = ids.subspan(blocks.num_known * size, size);
    const Hash hash = HashOf(chain, block_ids);
    // Another sequence may have published the same meanwhile: then ours stays private, and what follows
    // hangs on the known one.
    int32_t known = Find(salt, chain, hash, block_ids);
    if (known < 0) {
      Forget(hash);  // of the same name, but behind a prefix that is gone
      known = blocks.ids[blocks.num_known];
      Block& block = blocks_[known];
      block.is_known = true;
      block.hash = hash;
      block.entry = next_entry_++;
      block.parent_entry = chain.entry;
      block.salt = chain.entry == 0 ? std::string(salt) : std::string();
      block.ids.assign(block_ids.begin(), block_ids.end());
      known_[hash] = known;
      ++version_;
    }
    chain = {.low = hash.low, .high = hash.high, .entry = blocks_[known].entry};
  }
}

std::optional<BlockPool::Copy> BlockPool::Fork(const BlockList& parent, int num_tokens,
                                               BlockList& blocks) {
  ORRERY_CHECK(blocks.ids.empty()) << blocks.ids.size() << " blocks in a list to be filled";
  const int num_full = num_tokens / options_.block_tokens;
  Copy copy;
  if (num_tokens % options_.block_tokens > 0) {
    if (num_free() == 0) return std::nullopt;
    copy = {.from = parent.ids[num_full], .to = TakeFree()};
    AddReference(copy.to);
  }
  blocks.ids.assign(parent.ids.begin(), parent.ids.begin() + num_full);
  for (const int32_t id : blocks.ids) AddReference(id);
  if (copy.to >= 0) blocks.ids.push_back(copy.to);
  // The parent has published its full blocks by now, so both are at the same place in the tree.
  blocks.num_known = std::min(parent.num_known, num_full);
  blocks.chain = parent.chain;
  return copy;
}

void BlockPool::Release(BlockList& blocks) {
  // The last first: what hangs on others is evicted before them.
  for (size_t i = blocks.ids.size(); i-- > 0;) {
    const int32_t id = blocks.ids[i];
    Block& block = blocks_[id];
    ORRERY_CHECK(block.num_references > 0) << "block " << id << " is used by nobody";
    --num_references_;
    if (--block.num_references > 0) continue;
    if (block.is_known) {
      block.cached = cached_.insert(cached_.end(), id);
      ++version_;
    } else {
      free_.push_back(id);
    }
  }
  blocks = {};
}

void BlockPool::ForgetAll() {
  while (!known_.empty()) Forget(Hash(known_.begin()->first));
}

void BlockPool::Forget(const Hash& hash) {
  const auto found = known_.find(hash);
  if (found == known_.end()) return;
  Block& block = blocks_[found->second];
  block.is_known = false;
  if (block.num_references == 0) {
    cached_.erase(block.cached);
    free_.push_back(found->second);
  }
  known_.erase(found);
  ++version_;
}

int BlockPool::NumOwn(const BlockList& blocks) const {
  return static_cast<int>(std::count_if(blocks.ids.begin(), blocks.ids.end(), [this](int32_t id) {
    return blocks_[id].num_references == 1;
  }));
}

int32_t BlockPool::TakeFree() {
  if (free_.empty()) {
    Forget(blocks_[cached_.front()].hash);
    ++num_evictions_;
  }
  const int32_t id = free_.back();
  free_.pop_back();
  return id;
}

void BlockPool::AddReference(int32_t id) {
  Block& block = blocks_[id];
  if (block.num_references++ == 0 && block.is_known) {
    cached_.erase(block.cached);
    ++version_;
  }
  ++num_references_;
}

}  // namespace orrery
