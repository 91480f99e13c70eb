#include "tools/check/invariance/check_invariance.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tools/check/invariance/reference.h"
#include "tools/check/invariance/run_setting.h"
#include "tools/check/report.h"

namespace orrery {
namespace {

// The plain loops are for comparison; above this they would take hours.
constexpr int64_t kMaxScalarModelBytes = 4 << 20;
constexpr size_t kMaxShownFaults = 3;

int64_t WeightsBytes(const std::string& model_dir) {
  int64_t num_bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(model_dir, error)) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto size = entry.file_size(error);
    if (!error) num_bytes += static_cast<int64_t>(size);
  }
  return num_bytes;
}

// How long a setting takes, compared with plain greedy answers. A rough guess, for the time that is
// left only.
double RelativeTime(const Setting& setting) {
  double time = setting.batch == 1 ? 1.0 : 0.5;
  if (setting.n > 1) time *= 2.0;
  if (setting.prefix == Setting::kWarm) time *= 1.7;
  if (setting.cache == Setting::kTight) time *= 2.0;
  if (setting.transport == Setting::kGrpc) time *= 1.5;
  if (setting.cpu_variant() == CpuVariant::kAvx2) time *= 1.3;
  if (setting.cpu_variant() == CpuVariant::kScalar) time *= 4.0;
  return time;
}

std::string Minutes(double seconds) {
  return seconds < 90 ? absl::StrFormat("%.0f s", seconds)
                      : absl::StrFormat("%.0f min", seconds / 60);
}

// One line of the table; without a setting the names of the axes.
std::string TableLine(const std::vector<Axis>& axes, const Setting* setting) {
  std::string line;
  for (const Axis& axis : axes) {
    size_t width = axis.name.size();
    for (const AxisValue& value : axis.values) width = std::max(width, value.name.size());
    const std::string cell = setting == nullptr ? axis.name : std::string(axis.NameOf(*setting));
    absl::StrAppend(&line, cell, std::string(width + 1 - cell.size(), ' '));
  }
  return line;
}

// Drafts of the MTP module that the sampler drew, too: of the model's own problems if there are
// any, since a model is at a loss with random prompts, and where nothing bends the probabilities.
class Acceptance {
 public:
  void Add(const Setting& setting, const Workload& workload, const Reference::Answers& answers) {
    if (setting.drafts == 0) return;
    for (int i = 0; i < static_cast<int>(answers.size()); ++i) {
      const WorkloadRequest& request = workload.requests[i];
      const SamplingParams& sampling =
          setting.IsSeeded(i) ? request.seeded : request.greedy.sampling;
      const bool counts = request.is_from_eval || workload.num_from_eval == 0;
      if (!answers[i].ok() || !counts || Bends(sampling)) continue;
      Counts& sum = counts_[{setting.drafts, sampling.temperature}];
      sum.drafted += answers[i]->num_drafted;
      sum.accepted += answers[i]->num_accepted;
    }
  }
  void Print(std::FILE* out) const {
    for (const auto& [key, counts] : counts_) {
      if (counts.drafted == 0) continue;
      std::fprintf(
          out, "MTP, %d a step, temperature %.1f: %lld of %lld drafts accepted (%.1f %%)\n",
          key.first, key.second, static_cast<long long>(counts.accepted),
          static_cast<long long>(counts.drafted), 100.0 * counts.accepted / counts.drafted);
    }
  }

 private:
  static bool Bends(const SamplingParams& sampling) {
    return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
           sampling.frequency_penalty != 0.0f || !sampling.logit_bias.empty();
  }
  struct Counts {
    int64_t drafted = 0, accepted = 0;
  };
  std::map<std::pair<int, float>, Counts> counts_;
};

// One run of the check.
class Checker {
 public:
  Checker(const InvarianceOptions& options, std::FILE* out)
      : options_(options), out_(out), report_(out) {}

  absl::StatusOr<InvarianceResult> Run() {
    RETURN_IF_ERROR(Prepare());
    ASSIGN_OR_RETURN(const std::vector<Setting> settings, Choose());
    const std::vector<Setting> plain = Reference::PlainSettings(settings);
    for (const Setting& setting : plain) open_time_ += RelativeTime(setting);
    for (const Setting& setting : settings) open_time_ += RelativeTime(setting);
    begin_ = absl::Now();
    report_.Title(absl::StrCat("        ", TableLine(axes_, nullptr)));
    for (const Setting& setting : plain) RETURN_IF_ERROR(RunOne(setting, /*is_plain=*/true));
    report_.Title(absl::StrCat("  ", settings.size(), " settings to compare with these: about ",
                               Minutes(SecondsLeft())));
    for (const Setting& setting : settings) RETURN_IF_ERROR(RunOne(setting, /*is_plain=*/false));
    acceptance_.Print(out_);
    return InvarianceResult{.num_settings = static_cast<int>(plain.size() + settings.size()),
                            .num_failed = report_.num_failed(),
                            .num_requests = static_cast<int>(workload_.requests.size())};
  }

 private:
  absl::Status Prepare();
  // What this machine can run, and what it cannot: printed.
  void FindVariants();
  absl::StatusOr<std::vector<Setting>> Choose() const;
  // Makes the setting's cluster, unless the last setting had the same.
  absl::Status UseCluster(const Setting& setting);
  absl::Status RunOne(const Setting& setting, bool is_plain);
  void PrintRow(const Setting& setting, const std::vector<std::string>& faults, double seconds,
                const std::vector<EngineLoad>& loads);
  double SecondsLeft() const {
    const double spent = absl::ToDoubleSeconds(absl::Now() - begin_);
    return spent / std::max(done_time_, 1e-9) * std::max(open_time_, 0.0);
  }

  const InvarianceOptions options_;
  std::FILE* const out_;
  Report report_;
  const std::vector<Axis> axes_ = AllAxes();
  ModelConfig config_;
  SettingLimits limits_;
  Workload workload_;
  Reference reference_;
  Acceptance acceptance_;
  std::unique_ptr<LocalCluster> cluster_;
  std::optional<Setting> cluster_setting_;
  absl::Time begin_;
  double done_time_ = 0.0, open_time_ = 0.0;  // in units of RelativeTime
};

absl::Status Checker::Prepare() {
  ASSIGN_OR_RETURN(config_, ReadModelConfig(options_.cluster.model_dir));
  ASSIGN_OR_RETURN(workload_, MakeWorkload(options_.cluster.model_dir, config_, options_.workload));
  limits_.num_experts = config_.num_experts;
  limits_.has_mtp = config_.num_mtp_layers > 0;
  std::fprintf(out_,
               "%s: %zu prompts of up to %d tokens (%lld in all, %d of eval.jsonl), seed %llu\n",
               options_.cluster.model_dir.c_str(), workload_.requests.size(),
               workload_.longest_prompt, static_cast<long long>(workload_.num_prompt_tokens),
               workload_.num_from_eval, static_cast<unsigned long long>(options_.workload.seed));
  if (limits_.num_experts == 0) {
    report_.Skipped("shards, transport", "not covered: a dense model has no experts");
  } else if (limits_.num_experts < 4) {
    report_.Skipped("shards=4",
                    absl::StrCat("not covered: the model has ", limits_.num_experts, " experts"));
  }
  if (!limits_.has_mtp) report_.Skipped("mtp", "not covered: the checkpoint has no MTP module");
  FindVariants();
  return absl::OkStatus();
}

void Checker::FindVariants() {
  if (options_.cluster.backend != Backend::kCpu) {
    report_.Skipped("variant", "not covered: only the cpu backend has variants");
    return;
  }
  const std::pair<const char*, CpuVariant> variants[] = {{"amx", CpuVariant::kAmx},
                                                         {"amx-model", CpuVariant::kAmxModel},
                                                         {"avx512bf16", CpuVariant::kAvx512Bf16},
                                                         {"avx512", CpuVariant::kAvx512},
                                                         {"avx2", CpuVariant::kAvx2}};
  for (const auto& [name, variant] : variants) {
    const auto kernels = MakeKernels(Backend::kCpu, variant, /*stream=*/nullptr);
    if (kernels.ok()) {
      limits_.variants.push_back(variant);
    } else {
      report_.Skipped(
          absl::StrCat("variant=", name),
          absl::StrCat("NOT COVERED on this machine: ", std::string(kernels.status().message())));
    }
  }
  const int64_t num_bytes = WeightsBytes(options_.cluster.model_dir);
  if (num_bytes <= kMaxScalarModelBytes) {
    limits_.variants.push_back(CpuVariant::kScalar);
  } else {
    report_.Skipped("variant=scalar",
                    absl::StrCat("not covered: the weights have ", num_bytes >> 20,
                                 " MiB, it is run up to ", kMaxScalarModelBytes >> 20));
  }
}

absl::StatusOr<std::vector<Setting>> Checker::Choose() const {
  if (!options_.only.has_value()) return ChooseSettings(limits_, options_.settings);
  SettingLimits limits = limits_;
  // Slow, but somebody asks for it.
  if (!limits.variants.empty()) limits.variants.push_back(CpuVariant::kScalar);
  RETURN_IF_ERROR(CheckSetting(*options_.only, limits));
  return std::vector<Setting>{*options_.only};
}

absl::Status Checker::UseCluster(const Setting& setting) {
  if (cluster_setting_.has_value() && ShareCluster(*cluster_setting_, setting)) {
    return absl::OkStatus();
  }
  cluster_.reset();  // so that there is never more than one copy of the weights
  cluster_setting_.reset();
  LocalClusterOptions options = options_.cluster;
  options.cpu_variant = setting.cpu_variant();
  options.transport = setting.transport == Setting::kGrpc  ? LocalTransport::kGrpc
                      : setting.transport == Setting::kShm ? LocalTransport::kShm
                                                           : LocalTransport::kLoopback;
  options.num_ranks = setting.ranks;
  options.num_shards = setting.shards;
  options.num_threads = setting.threads;
  options.max_context_tokens = workload_.max_context_tokens;
  options.with_mtp = limits_.has_mtp;
  ASSIGN_OR_RETURN(cluster_, LocalCluster::Create(options));
  cluster_setting_ = setting;
  return absl::OkStatus();
}

absl::Status Checker::RunOne(const Setting& setting, bool is_plain) {
  const absl::Time begin = absl::Now();
  RETURN_IF_ERROR(UseCluster(setting));
  ASSIGN_OR_RETURN(const SettingRun run,
                   RunSetting(*cluster_, workload_, setting, options_.workload.seed));
  std::vector<std::string> faults = run.faults;
  for (size_t pass = 0; pass < run.passes.size(); ++pass) {
    for (const std::string& difference : reference_.Compare(setting, run.passes[pass])) {
      faults.push_back(run.passes.size() == 1 ? difference
                                              : absl::StrCat("pass ", pass, ", ", difference));
    }
    acceptance_.Add(setting, workload_, run.passes[pass]);
  }
  if (is_plain) RETURN_IF_ERROR(reference_.Add(setting, run.passes[0]));
  done_time_ += RelativeTime(setting);
  open_time_ -= RelativeTime(setting);
  PrintRow(setting, faults, absl::ToDoubleSeconds(absl::Now() - begin), run.loads);
  return absl::OkStatus();
}

void Checker::PrintRow(const Setting& setting, const std::vector<std::string>& faults,
                       double seconds, const std::vector<EngineLoad>& loads) {
  std::string detail = absl::StrFormat("%5.1f s", seconds);
  int64_t num_preemptions = 0;
  for (const EngineLoad& load : loads) num_preemptions += load.preemptions;
  if (num_preemptions > 0) absl::StrAppend(&detail, ", ", num_preemptions, " preempted");
  if (open_time_ > 0.1) absl::StrAppend(&detail, ", ", Minutes(SecondsLeft()), " left");
  report_.Line(faults.empty(), TableLine(axes_, &setting), detail);
  if (!faults.empty()) {
    for (size_t i = 0; i < std::min(faults.size(), kMaxShownFaults); ++i) {
      report_.Title(absl::StrCat("        ", faults[i]));
    }
    if (faults.size() > kMaxShownFaults) {
      report_.Title(absl::StrCat("        and ", faults.size() - kMaxShownFaults, " more"));
    }
    report_.Title(
        absl::StrCat("        again: ", options_.command, " --setting=", FormatSetting(setting)));
  }
  std::fflush(out_);
}

}  // namespace

absl::StatusOr<InvarianceResult> CheckInvariance(const InvarianceOptions& options, std::FILE* out) {
  return Checker(options, out).Run();
}

}  // namespace orrery
