#include "tools/flags/local_flags.h"

#include <algorithm>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "tools/flags/cluster_flags.h"

ABSL_FLAG(
    std::string, transport, "",
    "between ranks and shards inside this process: loopback, grpc or shm; empty: loopback for "
    "one rank and one shard, else grpc");

namespace orrery {
namespace {

constexpr int kMaxThreads = 1024;

}  // namespace

absl::StatusOr<LocalClusterOptions> LocalClusterFromFlags(Precision default_precision) {
  LocalClusterOptions options;
  ASSIGN_OR_RETURN(options.model_dir, ModelDirFromFlags());
  ASSIGN_OR_RETURN(options.backend, ParseBackend(absl::GetFlag(FLAGS_backend)));
  ASSIGN_OR_RETURN(options.cpu_variant, ParseCpuVariant(absl::GetFlag(FLAGS_cpu_variant)));
  options.num_ranks = absl::GetFlag(FLAGS_ranks);
  options.num_shards = absl::GetFlag(FLAGS_shards);
  options.numerics.precision = default_precision;
  if (const std::string precision = absl::GetFlag(FLAGS_precision); !precision.empty()) {
    ASSIGN_OR_RETURN(options.numerics.precision, ParsePrecision(precision));
  }
  options.numerics.row_format =
      options.numerics.precision == Precision::kF32 ? RowFormat::kF32 : RowFormat::kBf16;
  if (const std::string format = absl::GetFlag(FLAGS_row_format); !format.empty()) {
    ASSIGN_OR_RETURN(options.numerics.row_format, ParseRowFormat(format));
  }
  if (const std::string format = absl::GetFlag(FLAGS_ffn_weights); !format.empty()) {
    ASSIGN_OR_RETURN(options.numerics.ffn_weights, ParseWeightFormat(format));
  }
  if (const std::string products = absl::GetFlag(FLAGS_ffn_products); !products.empty()) {
    ASSIGN_OR_RETURN(options.numerics.ffn_products, ParseFfnProducts(products));
  }
  if (const std::string format = absl::GetFlag(FLAGS_linear_weights); !format.empty()) {
    ASSIGN_OR_RETURN(options.numerics.linear_weights, ParseWeightFormat(format));
  }
  ASSIGN_OR_RETURN(const std::vector<int> gpus, GpusFromFlags());
  if (gpus.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--gpus names ", gpus.size(), " GPUs; ranks and shards of one process share a single one"));
  }
  options.gpu = gpus[0];
  const int num_threads = absl::GetFlag(FLAGS_threads);
  if (num_threads < 0 || num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads is ", num_threads, ", must be 0 to ", kMaxThreads));
  }
  options.num_threads = std::max(1, num_threads);
  const std::string transport = absl::GetFlag(FLAGS_transport);
  if (transport.empty()) {
    options.transport = options.num_ranks == 1 && options.num_shards == 1
                            ? LocalTransport::kLoopback
                            : LocalTransport::kGrpc;
  } else if (transport == "loopback") {
    options.transport = LocalTransport::kLoopback;
  } else if (transport == "grpc") {
    options.transport = LocalTransport::kGrpc;
  } else if (transport == "shm") {
    options.transport = LocalTransport::kShm;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("--transport is \"", transport, "\", must be loopback, grpc or shm"));
  }
  return options;
}

}  // namespace orrery
