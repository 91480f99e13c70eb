#include "tools/check/invariance/setting.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tools/check/invariance/covering_array.h"

namespace orrery {
namespace {

constexpr char kPlain[] = "plain";

AxisValue Variant(CpuVariant variant, std::string name) {
  return {static_cast<int>(variant), std::move(name)};
}

// Nothing takes the blocks of a sequence that is alone.
bool Excluded(const Setting& setting) {
  return setting.cache == Setting::kTight && setting.batch == 1;
}

bool Admits(const SettingLimits& limits, const Axis& axis, int value) {
  if (axis.field == &Setting::shards) return value <= std::max(limits.num_experts, 1);
  if (axis.field == &Setting::transport) {
    return value == Setting::kLoopback || limits.num_experts > 0;
  }
  if (axis.field == &Setting::drafts) return value == 0 || limits.has_mtp;
  if (axis.field == &Setting::variant) {
    const bool is_best = value == static_cast<int>(CpuVariant::kBest);
    if (limits.variants.empty()) return is_best;
    return std::count(limits.variants.begin(), limits.variants.end(),
                      static_cast<CpuVariant>(value)) > 0;
  }
  return true;
}

// The axes with the values that the limits admit.
std::vector<Axis> AxesWithin(const SettingLimits& limits) {
  std::vector<Axis> axes = AllAxes();
  for (Axis& axis : axes) {
    const auto refused = [&](const AxisValue& v) { return !Admits(limits, axis, v.value); };
    axis.values.erase(std::remove_if(axis.values.begin(), axis.values.end(), refused),
                      axis.values.end());
  }
  return axes;
}

CoveringSpace SpaceOf(const std::vector<Axis>& axes) {
  CoveringSpace space;
  for (const Axis& axis : axes) space.num_levels.push_back(static_cast<int>(axis.values.size()));
  for (int a = 0; a < static_cast<int>(axes.size()); ++a) {
    for (int b = a + 1; b < static_cast<int>(axes.size()); ++b) {
      for (int i = 0; i < space.num_levels[a]; ++i) {
        for (int j = 0; j < space.num_levels[b]; ++j) {
          Setting setting{.batch = 64};  // as plain, and free of exclusions
          setting.*axes[a].field = axes[a].values[i].value;
          setting.*axes[b].field = axes[b].values[j].value;
          if (Excluded(setting)) space.forbidden.push_back({a, i, b, j});
        }
      }
    }
  }
  return space;
}

Setting FromLevels(const std::vector<Axis>& axes, const FactorLevels& levels) {
  Setting setting;
  for (size_t i = 0; i < axes.size(); ++i) setting.*axes[i].field = axes[i].values[levels[i]].value;
  return setting;
}

auto ClusterKey(const Setting& setting) {
  return std::tie(setting.ranks, setting.shards, setting.transport, setting.variant,
                  setting.threads);
}

template <typename List, typename GetName>
std::string Names(const List& list, GetName name) {
  return absl::StrJoin(list, ", ",
                       [&](std::string* out, const auto& item) { out->append(name(item)); });
}

}  // namespace

std::string_view Axis::NameOf(const Setting& setting) const {
  for (const AxisValue& value : values) {
    if (value.value == setting.*field) return value.name;
  }
  return "?";
}

std::vector<Axis> AllAxes() {
  using S = Setting;
  return {
      {"batch", &S::batch, {{1, "1"}, {64, "64"}}},
      {"order", &S::order, {{S::kGiven, "given"}, {S::kPermuted, "permuted"}}},
      {"chunk", &S::chunk, {{16, "16"}, {64, "64"}, {0, "whole"}}},
      {"prefix", &S::prefix, {{S::kOff, "off"}, {S::kCold, "cold"}, {S::kWarm, "warm"}}},
      {"cache", &S::cache, {{S::kAmple, "ample"}, {S::kTight, "tight"}}},
      {"mtp", &S::drafts, {{0, "off"}, {1, "1"}, {2, "2"}}},
      {"ranks", &S::ranks, {{1, "1"}, {2, "2"}, {3, "3"}}},
      {"shards", &S::shards, {{1, "1"}, {2, "2"}, {4, "4"}}},
      {"transport",
       &S::transport,
       {{S::kLoopback, "loopback"}, {S::kGrpc, "grpc"}, {S::kShm, "shm"}}},
      {"variant",
       &S::variant,
       {Variant(CpuVariant::kBest, "best"), Variant(CpuVariant::kAmx, "amx"),
        Variant(CpuVariant::kAmxModel, "amx-model"), Variant(CpuVariant::kAvx512Bf16, "avx512bf16"),
        Variant(CpuVariant::kAvx512, "avx512"), Variant(CpuVariant::kAvx2, "avx2"),
        Variant(CpuVariant::kScalar, "scalar")}},
      {"threads", &S::threads, {{1, "1"}, {3, "3"}}},
      {"sampling",
       &S::sampling,
       {{S::kGreedy, "greedy"}, {S::kSeeded, "seeded"}, {S::kMixed, "mixed"}}},
      {"n", &S::n, {{1, "1"}, {3, "3"}}},
  };
}

absl::StatusOr<Setting> ParseSetting(std::string_view text) {
  const std::string whole(text);  // Abseil's string_view is not the standard's here
  Setting setting;
  if (whole == kPlain) return setting;
  const std::vector<Axis> axes = AllAxes();
  std::vector<bool> is_given(axes.size(), false);
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(whole, ','))) {
    const std::vector<std::string> sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const auto axis = std::find_if(axes.begin(), axes.end(),
                                   [&](const Axis& known) { return known.name == sides[0]; });
    if (axis == axes.end() || sides.size() != 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a setting is \"", kPlain, "\", or AXIS=VALUE with commas between; \"", part,
          "\" is not: the axes are ", Names(axes, [](const Axis& a) { return a.name; })));
    }
    const auto value = std::find_if(axis->values.begin(), axis->values.end(),
                                    [&](const AxisValue& known) { return known.name == sides[1]; });
    if (value == axis->values.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("setting: ", axis->name, " is \"", sides[1], "\", must be one of ",
                       Names(axis->values, [](const AxisValue& v) { return v.name; })));
    }
    if (is_given[axis - axes.begin()]) {
      return absl::InvalidArgumentError(absl::StrCat("setting: ", axis->name, " is given twice"));
    }
    is_given[axis - axes.begin()] = true;
    setting.*axis->field = value->value;
  }
  if (Excluded(setting)) {
    return absl::InvalidArgumentError(
        "setting: cache=tight needs batch=64, since a sequence alone is never preempted");
  }
  return setting;
}

std::string FormatSetting(const Setting& setting) {
  const Setting plain;
  std::vector<std::string> parts;
  for (const Axis& axis : AllAxes()) {
    if (setting.*axis.field == plain.*axis.field) continue;
    parts.push_back(absl::StrCat(axis.name, "=", std::string(axis.NameOf(setting))));
  }
  return parts.empty() ? kPlain : absl::StrJoin(parts, ",");
}

absl::Status CheckSetting(const Setting& setting, const SettingLimits& limits) {
  for (const Axis& axis : AllAxes()) {
    if (setting.*axis.field == Setting().*axis.field) continue;
    if (Admits(limits, axis, setting.*axis.field)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "setting: model or machine do not admit ", axis.name, "=",
        std::string(axis.NameOf(setting)), " (", limits.num_experts, " experts, MTP module: ",
        limits.has_mtp ? "yes" : "no", ", processor: ", SupportedCpuVariants(), ")"));
  }
  return absl::OkStatus();
}

std::vector<Setting> ChooseSettings(const SettingLimits& limits, const SettingChoice& choice) {
  const std::vector<Axis> axes = AxesWithin(limits);
  const CoveringSpace space = SpaceOf(axes);
  std::vector<FactorLevels> rows;
  if (choice.pairwise) rows = PairwiseRows(space, choice.seed);
  for (FactorLevels& row : RandomRows(space, choice.num_random, choice.seed)) {
    rows.push_back(std::move(row));
  }
  std::vector<Setting> settings;
  for (const FactorLevels& row : rows) {
    const Setting setting = FromLevels(axes, row);
    if (std::count(settings.begin(), settings.end(), setting) == 0) settings.push_back(setting);
  }
  std::stable_sort(settings.begin(), settings.end(), [](const Setting& a, const Setting& b) {
    return ClusterKey(a) < ClusterKey(b);
  });
  return settings;
}

bool ShareCluster(const Setting& a, const Setting& b) { return ClusterKey(a) == ClusterKey(b); }

}  // namespace orrery
