#include "checkpoint/text/bpe.h"

#include <queue>
#include <tuple>

namespace orrery {
namespace {

constexpr int kNone = -1;

// A doubly linked list of tokens over an array; merging removes the right one of a pair.
struct Symbol {
  int32_t id;
  int previous;
  int next;
};

struct Candidate {
  int32_t rank;
  int position;  // of the left symbol
  // For a min-heap: lowest rank first, then leftmost.
  bool operator<(const Candidate& other) const {
    return std::tie(rank, position) > std::tie(other.rank, other.position);
  }
};

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

}  // namespace

bool BytePairEncoder::AddMerge(int32_t left, int32_t right, int32_t merged) {
  const int32_t rank = static_cast<int32_t>(merges_.size());
  return merges_.try_emplace(PairKey(left, right), Merge{rank, merged}).second;
}

const BytePairEncoder::Merge* BytePairEncoder::Find(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairEncoder::Encode(std::string_view bytes, std::vector<int32_t>& ids) const {
  const int num_symbols = static_cast<int>(bytes.size());
  if (num_symbols == 0) return;
  std::vector<Symbol> symbols(num_symbols);
  for (int i = 0; i < num_symbols; ++i) {
    symbols[i] = {byte_ids_[static_cast<uint8_t>(bytes[i])], i - 1,
                  i + 1 < num_symbols ? i + 1 : kNone};
  }
  std::priority_queue<Candidate> candidates;
  const auto offer = [&](int left) {
    if (left == kNone || symbols[left].next == kNone) return;
    const Merge* merge = Find(symbols[left].id, symbols[symbols[left].next].id);
    if (merge != nullptr) candidates.push({merge->rank, left});
  };
  for (int i = 0; i + 1 < num_symbols; ++i) offer(i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.position];
    if (left.id == kNone || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    // An older candidate whose pair has changed since; ranks are unique, so an equal one is the
    // same pair.
    const Merge* merge = Find(left.id, right.id);
    if (merge == nullptr || merge->rank != best.rank) continue;
    left.id = merge->merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbols[left.next].previous = best.position;
    offer(left.previous);
    offer(best.position);
  }
  for (int i = 0; i != kNone; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace orrery
