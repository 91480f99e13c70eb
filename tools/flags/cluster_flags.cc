#include "tools/flags/cluster_flags.h"

#include <filesystem>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "checkpoint/model_config.h"
#include "kernels/factory/make_kernels.h"
#include "tools/certs/development_certificates.h"
#include "tools/flags/places.h"
#include "tools/flags/tls_flags.h"

ABSL_FLAG(std::string, model, "", "folder of the model; empty: the bundled one");
ABSL_FLAG(int, ranks, 2, "number of attention ranks");
ABSL_FLAG(int, shards, 4, "number of expert shards; ignored for a dense model");
ABSL_FLAG(int, spare_shards, 0,
          "further expert shards, without experts of their own: for copies of hot ones, and for "
          "experts of shards that are gone");
ABSL_FLAG(std::string, precision, "",
          "activations and KV cache: bf16 or f32; empty: bf16, or f32 for `check golden`");
ABSL_FLAG(std::string, row_format, "",
          "rows between ranks and shards: bf16, f32 or fp8; empty: as the precision");
ABSL_FLAG(std::string, ffn_weights, "",
          "weights of feed-forwards in memory: stored (as in the checkpoint), int8 or int4; empty: "
          "stored");
ABSL_FLAG(std::string, ffn_products, "",
          "what enters the products of feed-forwards: precision (as the precision) or fp8 (fp8 "
          "checkpoints; backends cuda and reference); empty: precision");
ABSL_FLAG(std::string, linear_weights, "",
          "weights of attention's projections and of the head, likewise; empty: stored");
ABSL_FLAG(std::vector<std::string>, gpus, {},
          "GPUs of backend cuda, like 0,1: ranks take them in turn, then shards; empty: 0");
ABSL_FLAG(
    std::string, backend, "cpu",
    "cpu, cuda (a GPU; in a build with --config=cuda) or reference (plain loops in f64: slow)");
ABSL_FLAG(
    std::string, cpu_variant, "best",
    "kernels of the cpu backend: best, amx, avx512bf16, avx512, avx2 or scalar (amx-model: for "
    "tests); the bits are the same");
ABSL_FLAG(
    std::string, exchange, "",
    "rows between the processes of ranks and shards: auto, grpc, shm, nccl or cuda_ipc (these two "
    "between GPUs, of builds with --config=cuda); empty: auto");
ABSL_FLAG(int, threads, 0,
          "threads that compute, of each rank and shard; 0: their share of the processors (in one "
          "process: 1; bench kernels and bench model: all)");
ABSL_FLAG(int, max_context_tokens, 0,
          "longest prompt plus answer; 0: what the model allows and the cache holds");
ABSL_FLAG(int64_t, kv_cache_bytes, 0, "KV cache of a rank; 0: what 65536 tokens need");
ABSL_FLAG(int, max_waiting_requests, 0, "requests waiting at a rank; 0: 256");
ABSL_FLAG(int, max_running_sequences, 0, "sequences that a rank runs at a time; 0: 64");
ABSL_FLAG(int, max_step_rows, 0, "rows of a rank's step, prompts and answers together; 0: 256");
ABSL_FLAG(int, max_prefill_rows, 0, "of them, for prompts while answers are running; 0: 64");
ABSL_FLAG(int, draft_tokens, 0,
          "speculative decoding: tokens drafted per step, 0 to 4; the answers are the same");
ABSL_FLAG(bool, share_prefix_cache, false, "tenants share the prefix cache");
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

// Zeros are defaults, and wrong values are found where the cluster file is read.
internal::Limits LimitsFromFlags() {
  internal::Limits limits;
  limits.set_max_context_tokens(absl::GetFlag(FLAGS_max_context_tokens));
  limits.set_kv_cache_bytes(absl::GetFlag(FLAGS_kv_cache_bytes));
  limits.set_max_waiting_requests(absl::GetFlag(FLAGS_max_waiting_requests));
  limits.set_max_running_sequences(absl::GetFlag(FLAGS_max_running_sequences));
  limits.set_max_step_rows(absl::GetFlag(FLAGS_max_step_rows));
  limits.set_max_prefill_rows(absl::GetFlag(FLAGS_max_prefill_rows));
  limits.set_num_draft_tokens(absl::GetFlag(FLAGS_draft_tokens));
  limits.set_share_prefix_cache(absl::GetFlag(FLAGS_share_prefix_cache));
  return limits;
}

}  // namespace

absl::StatusOr<std::string> ModelDirFromFlags() {
  const std::string model = absl::GetFlag(FLAGS_model);
  return model.empty() ? BundledModelDir() : model;
}

absl::StatusOr<std::vector<int>> GpusFromFlags() {
  std::vector<int> gpus;
  for (const std::string& text : absl::GetFlag(FLAGS_gpus)) {
    int gpu = 0;
    if (!absl::SimpleAtoi(text, &gpu) || gpu < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--gpus has \"", text, "\": want numbers from 0 on, like 0,1"));
    }
    gpus.push_back(gpu);
  }
  if (gpus.empty()) gpus.push_back(0);
  return gpus;
}

absl::StatusOr<Topology> TopologyFromFlags() {
  Topology topology;
  ASSIGN_OR_RETURN(topology.model_dir, ModelDirFromFlags());
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(topology.model_dir));
  topology.num_ranks = absl::GetFlag(FLAGS_ranks);
  topology.num_shards = config.num_experts > 0 ? absl::GetFlag(FLAGS_shards) : 0;
  topology.num_spare_shards = config.num_experts > 0 ? absl::GetFlag(FLAGS_spare_shards) : 0;
  ASSIGN_OR_RETURN(
      const internal::Precision precision,
      ParseEnum<internal::Precision>("precision", "PRECISION_", absl::GetFlag(FLAGS_precision)));
  ASSIGN_OR_RETURN(
      const internal::RowFormat row_format,
      ParseEnum<internal::RowFormat>("row_format", "ROW_FORMAT_", absl::GetFlag(FLAGS_row_format)));
  ASSIGN_OR_RETURN(const internal::WeightFormat ffn_weights,
                   ParseEnum<internal::WeightFormat>("ffn_weights", "WEIGHT_FORMAT_",
                                                     absl::GetFlag(FLAGS_ffn_weights)));
  ASSIGN_OR_RETURN(const internal::ProductFormat ffn_products,
                   ParseEnum<internal::ProductFormat>("ffn_products", "PRODUCT_FORMAT_",
                                                      absl::GetFlag(FLAGS_ffn_products)));
  ASSIGN_OR_RETURN(const internal::WeightFormat linear_weights,
                   ParseEnum<internal::WeightFormat>("linear_weights", "WEIGHT_FORMAT_",
                                                     absl::GetFlag(FLAGS_linear_weights)));
  ASSIGN_OR_RETURN(
      const internal::Backend backend,
      ParseEnum<internal::Backend>("backend", "BACKEND_", absl::GetFlag(FLAGS_backend)));
  topology.numerics.set_precision(precision);
  topology.numerics.set_row_format(row_format);
  topology.numerics.set_ffn_weights(ffn_weights);
  topology.numerics.set_ffn_products(ffn_products);
  topology.numerics.set_linear_weights(linear_weights);
  topology.numerics.set_backend(backend);
  ASSIGN_OR_RETURN(topology.exchange, ParseEnum<internal::Exchange>("exchange", "EXCHANGE_",
                                                                    absl::GetFlag(FLAGS_exchange)));
  topology.limits = LimitsFromFlags();
  if (const std::string folder = absl::GetFlag(FLAGS_tls); !folder.empty()) {
    topology.tls = TlsOfFolder(std::filesystem::absolute(folder).lexically_normal().string());
    topology.tls.set_trust_domain(absl::GetFlag(FLAGS_trust_domain));
  }
  topology.num_threads = absl::GetFlag(FLAGS_threads);
  ASSIGN_OR_RETURN(topology.gpus, GpusFromFlags());
  return topology;
}

absl::StatusOr<LaunchOptions> LaunchOptionsFromFlags() {
  // As the members would, but before any of them is started.
  RETURN_IF_ERROR(ParseCpuVariant(absl::GetFlag(FLAGS_cpu_variant)).status());
  LaunchOptions options;
  options.bin_dir = absl::GetFlag(FLAGS_bin_dir);
  options.compute_flags = {absl::StrCat("--cpu_variant=", absl::GetFlag(FLAGS_cpu_variant))};
  return options;
}

}  // namespace orrery
