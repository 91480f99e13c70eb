#include "tools/flags/cluster_flags.h"

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/model_config.h"
#include "tools/flags/places.h"

ABSL_FLAG(std::string, model, "", "folder of the model; empty: the bundled one");
ABSL_FLAG(int, ranks, 2, "number of attention ranks");
ABSL_FLAG(int, shards, 4, "number of expert shards; ignored for a dense model");
ABSL_FLAG(std::string, precision, "",
          "activations and KV cache: bf16 or f32; empty: bf16, or f32 for `check`");
ABSL_FLAG(std::string, row_format, "",
          "rows between ranks and shards: bf16, f32 or fp8; empty: as the precision");
ABSL_FLAG(std::string, backend, "cpu", "cpu, or reference (plain loops in f64: slow)");
ABSL_FLAG(std::string, cpu_variant, "best",
          "kernels of the cpu backend: best, avx512, avx2 or scalar; the bits are the same");
ABSL_FLAG(std::string, bin_dir, "",
          "folder with the programs router, attention and expert; empty: beside this one");
ABSL_FLAG(absl::Duration, start_timeout, absl::Minutes(10),
          "how long the cluster may take to start");

namespace orrery {
namespace {

// The value of a protobuf enum from a short name: "bf16" with prefix "PRECISION_" is
// PRECISION_BF16. An empty text is the unspecified value.
template <typename Enum>
absl::StatusOr<Enum> ParseEnum(const std::string& flag, const std::string& prefix,
                               const std::string& text) {
  const google::protobuf::EnumDescriptor* const descriptor =
      google::protobuf::GetEnumDescriptor<Enum>();
  if (text.empty()) return static_cast<Enum>(0);
  const auto* const value =
      descriptor->FindValueByName(absl::StrCat(prefix, absl::AsciiStrToUpper(text)));
  if (value != nullptr && value->number() != 0) return static_cast<Enum>(value->number());
  std::vector<std::string> names;
  for (int i = 1; i < descriptor->value_count(); ++i) {
    names.push_back(absl::AsciiStrToLower(descriptor->value(i)->name().substr(prefix.size())));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is \"", text, "\", must be one of ", absl::StrJoin(names, ", ")));
}

}  // namespace

absl::StatusOr<std::string> ModelDirFromFlags() {
  const std::string model = absl::GetFlag(FLAGS_model);
  return model.empty() ? BundledModelDir() : model;
}

absl::StatusOr<Topology> TopologyFromFlags() {
  Topology topology;
  ASSIGN_OR_RETURN(topology.model_dir, ModelDirFromFlags());
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(topology.model_dir));
  topology.num_ranks = absl::GetFlag(FLAGS_ranks);
  topology.num_shards = config.num_experts > 0 ? absl::GetFlag(FLAGS_shards) : 0;
  ASSIGN_OR_RETURN(
      const internal::Precision precision,
      ParseEnum<internal::Precision>("precision", "PRECISION_", absl::GetFlag(FLAGS_precision)));
  ASSIGN_OR_RETURN(
      const internal::RowFormat row_format,
      ParseEnum<internal::RowFormat>("row_format", "ROW_FORMAT_", absl::GetFlag(FLAGS_row_format)));
  ASSIGN_OR_RETURN(
      const internal::Backend backend,
      ParseEnum<internal::Backend>("backend", "BACKEND_", absl::GetFlag(FLAGS_backend)));
  topology.numerics.set_precision(precision);
  topology.numerics.set_row_format(row_format);
  topology.numerics.set_backend(backend);
  return topology;
}

LaunchOptions LaunchOptionsFromFlags() {
  LaunchOptions options;
  options.bin_dir = absl::GetFlag(FLAGS_bin_dir);
  options.compute_flags = {absl::StrCat("--cpu_variant=", absl::GetFlag(FLAGS_cpu_variant))};
  return options;
}

}  // namespace orrery
