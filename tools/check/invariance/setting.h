// One way to run the same requests: everything that must not change a bit, and the two things that
// say which answer is meant (sampling, n).
//
//   ASSIGN_OR_RETURN(Setting setting, ParseSetting("batch=64,chunk=16,prefix=warm,ranks=2"));
//   FormatSetting(setting)  ->  the same text; what it does not mention is plain
//
// The plain setting is the one that all others are compared with: one request at a time, whole
// prompts, no prefix cache, no drafts, one rank, one shard, loopback.
//
// Each field is an axis; a table of axes joins it to the names of its values, for parsing, printing
// and the covering array.
#ifndef ORRERY_TOOLS_CHECK_INVARIANCE_SETTING_H_
#define ORRERY_TOOLS_CHECK_INVARIANCE_SETTING_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/factory/make_kernels.h"

namespace orrery {

struct Setting {
  enum Order { kGiven, kPermuted };
  enum Prefix { kOff, kCold, kWarm };
  enum Cache {
    kAmple,
    kTight
  };  // kTight: too small for what runs, so that sequences are preempted
  enum Transport { kLoopback, kGrpc, kShm };
  enum Sampling { kGreedy, kSeeded, kMixed };  // kMixed: every other request

  int batch = 1;  // requests of one rank at once
  int order = kGiven;
  int chunk = 0;  // prompt rows per step; 0: whole prompts
  int prefix = kOff;
  int cache = kAmple;
  int drafts = 0;  // of the MTP module, per step
  int ranks = 1;
  int shards = 1;
  int transport = kLoopback;
  int variant = static_cast<int>(CpuVariant::kBest);
  int threads = 1;  // of each rank and shard
  int sampling = kGreedy;
  int n = 1;

  bool operator==(const Setting&) const = default;
  CpuVariant cpu_variant() const { return static_cast<CpuVariant>(variant); }
  // Whether the request of this index is drawn at random.
  bool IsSeeded(int request) const {
    return sampling == kSeeded || (sampling == kMixed && request % 2 == 1);
  }
};

struct AxisValue {
  int value = 0;
  std::string name;
};

struct Axis {
  std::string name;
  int Setting::*field = nullptr;
  std::vector<AxisValue> values;

  std::string_view NameOf(const Setting& setting) const;
};

// Every axis with every value that a setting may have, in the order in which they are printed.
std::vector<Axis> AllAxes();

// "plain", or what differs from it: "batch=64,prefix=warm". INVALID_ARGUMENT for an axis or value
// that does not exist (with those that do), a repeated axis, or values that exclude each other.
absl::StatusOr<Setting> ParseSetting(std::string_view text);
std::string FormatSetting(const Setting& setting);

// What model and machine admit.
struct SettingLimits {
  int num_experts = 0;  // 0: dense, hence no shards and no transport
  bool has_mtp = false;
  std::vector<CpuVariant> variants{};  // empty: the backend has none
};

// INVALID_ARGUMENT if a setting asks for more than they admit.
absl::Status CheckSetting(const Setting& setting, const SettingLimits& limits);

// A covering array over all axes, then `num_random` settings by seed; without repetitions, so there
// may be fewer. Neighbours need the same cluster where possible.
struct SettingChoice {
  bool pairwise = true;
  int num_random = 0;
  uint64_t seed = 1;
};
std::vector<Setting> ChooseSettings(const SettingLimits& limits, const SettingChoice& choice);

// Whether the two can run on the same cluster.
bool ShareCluster(const Setting& a, const Setting& b);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_INVARIANCE_SETTING_H_
