#include "tools/bench/draws.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace orrery {
namespace {

// Numbers the draws at one request; ids of the prompt follow from kFirstId on.
enum Draw : uint32_t { kGap, kPrompt, kOutput, kPrefix, kSeedHigh, kSeedLow, kLeave, kFirstId };

// As `choice` of a key, where loads have their number: common to all loads.
constexpr uint32_t kPrefixStream = 0xffffffffu;
constexpr uint32_t kTextStream = 0xfffffffeu;

constexpr char kCharacters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
constexpr int kNumCharacters = sizeof(kCharacters) - 1;
constexpr int kMaxWordBytes = 8;

// Uniform in [0, count).
int Index(const DrawKey& key, int count) {
  return std::min(static_cast<int>(UniformDraw(key) * count), count - 1);
}

int Length(const DrawKey& key, const TokenRange& range) {
  return range.min + Index(key, range.max - range.min + 1);
}

// A draw per id, numbered from kFirstId.
void AppendIds(DrawKey key, int num_tokens, const std::vector<int32_t>& pool,
               std::vector<int32_t>& ids) {
  ORRERY_CHECK(!pool.empty());
  for (int i = 0; i < num_tokens; ++i) {
    key.draw = kFirstId + static_cast<uint32_t>(i);
    ids.push_back(pool[Index(key, static_cast<int>(pool.size()))]);
  }
}

}  // namespace

absl::Duration LoadDraws::Gap(uint32_t request) const {
  const double mean = 1.0 / load_->rate;
  if (load_->arrivals == Arrivals::kRegular) return absl::Seconds(mean);
  const DrawKey key = {.seed = key_.seed, .choice = key_.stream, .position = request, .draw = kGap};
  return absl::Seconds(-PortableLog(UniformDraw(key)) * mean);
}

RequestShape LoadDraws::Shape(uint32_t request) const {
  const auto key = [&](uint32_t draw) {
    return DrawKey{.seed = key_.seed, .choice = key_.stream, .position = request, .draw = draw};
  };
  RequestShape shape;
  const int prompt_tokens = Length(key(kPrompt), load_->prompt_tokens);
  const int prefix = Index(key(kPrefix), load_->num_prefixes);
  shape.prompt = PrefixIds(key_.seed, prefix, load_->prefix_tokens, *pool_);
  AppendIds(key(kFirstId), prompt_tokens - load_->prefix_tokens, *pool_, shape.prompt);
  shape.output_tokens = Length(key(kOutput), load_->output_tokens);
  // 2^32 values each, so that seeds of different requests hardly ever meet.
  shape.seed = static_cast<uint64_t>(UniformDraw(key(kSeedHigh)) * 0x1p32) << 32 |
               static_cast<uint64_t>(UniformDraw(key(kSeedLow)) * 0x1p32);
  shape.disconnect_after = UniformDraw(key(kLeave)) * load_->disconnect_within;
  return shape;
}

std::vector<int32_t> PrefixIds(uint64_t seed, uint32_t prefix, int num_tokens,
                               const std::vector<int32_t>& token_pool) {
  std::vector<int32_t> ids;
  AppendIds({.seed = seed, .choice = kPrefixStream, .position = prefix}, num_tokens, token_pool,
            ids);
  return ids;
}

std::string RandomText(uint64_t seed, int num_words) {
  std::string text;
  for (int word = 0; word < num_words; ++word) {
    DrawKey key = {.seed = seed, .choice = kTextStream, .position = static_cast<uint32_t>(word)};
    const int num_bytes = 1 + Index(key, kMaxWordBytes);
    if (word > 0) text += ' ';
    for (int i = 0; i < num_bytes; ++i) {
      ++key.draw;
      text += kCharacters[Index(key, kNumCharacters)];
    }
  }
  return text;
}

}  // namespace orrery
