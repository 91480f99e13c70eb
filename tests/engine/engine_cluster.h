// Attention ranks and expert shards in one process, where the test decides which shard answers, and
// when.
//
//   auto cluster = EngineCluster::Make({.shards = {{0, 16}, {0, 16}}});   // two that hold all
//   cluster->Answer(0);                                                   // shard 1 stays silent
//   auto logprobs = RunPrompt(cluster->parts(0), ids, kPatience);
//   cluster->loopback().DisconnectShard(0);
//
// It is not tools/local_cluster.h, whose shards always answer. Engines must end before their
// cluster. Threads: belongs to the test's.
#ifndef ORRERY_TESTS_ENGINE_ENGINE_CLUSTER_H_
#define ORRERY_TESTS_ENGINE_ENGINE_CLUSTER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/status.h"
#include "device/device.h"
#include "exchange/loopback/loopback.h"
#include "kernels/kernels.h"
#include "model/numerics.h"
#include "placement/placement.h"
#include "services/attention/expert_directory.h"
#include "services/attention/model.h"
#include "services/attention/step.h"
#include "services/expert/copies.h"
#include "services/expert/serve_loop.h"
#include "services/expert/shard.h"

namespace orrery {

// Long enough for a busy machine and a build with sanitizers; nothing waits for it when all is
// well.
inline constexpr absl::Duration kPatience = absl::Minutes(2);

// How long a rank waits for a shard that never answered yet before it asks another holder.
inline constexpr absl::Duration kHedgePatience = absl::Seconds(2);

// What ranks and shards compute on.
struct EngineBackend {
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> make_device;
  std::function<absl::StatusOr<std::unique_ptr<Kernels>>(Stream*)> make_kernels;
};
EngineBackend CpuBackend();

struct EngineClusterOptions {
  std::string model_dir = "models/abacus";
  EngineBackend backend = CpuBackend();
  Numerics numerics = {.precision = Precision::kF32, .row_format = RowFormat::kF32};
  int num_ranks = 1;
  int max_context_tokens = 512;
  bool with_mtp = false;  // ranks and shards load the MTP module too
  // Which experts each shard loads; two may load the same.
  std::vector<ExpertRange> shards;
  int audit_one_in = 10'000;
  // How many experts of others each shard loads when it is asked. 0: it has no heir.
  int heir_room = 0;
};

class EngineCluster {
 public:
  // Every shard is silent at first, and every rank believes what the shards hold. Null, and a
  // failure of the test, if it cannot be made.
  static std::unique_ptr<EngineCluster> Make(const EngineClusterOptions& options);

  StepParts parts(int rank) const;
  const ModelConfig& config() const { return model_.config; }
  ExpertDirectory& directory(int rank) { return *ranks_[rank].directory; }
  Loopback& loopback() { return *loopback_; }
  Shard& shard(int index) { return *shards_[index].shard; }

  // From here on the shard answers.
  void Answer(int shard);
  void AnswerAll();
  // From here on it leaves its frames where they are. Not for a shard with a heir.
  void FallSilent(int shard);

 private:
  struct Processor {
    std::unique_ptr<Stream> stream;
    std::unique_ptr<Kernels> kernels;
  };
  struct ShardHost {
    Processor processor;
    std::unique_ptr<Shard> shard;
    std::unique_ptr<ServeLoop> loop;
    Processor heir_processor;
    std::unique_ptr<Copies> copies;  // null if it loads none; needs the loop
  };
  struct Rank {
    Processor processor;
    std::unique_ptr<ExpertDirectory> directory;
  };

  EngineCluster() = default;
  absl::Status Build(const EngineClusterOptions& options);
  absl::StatusOr<Processor> MakeProcessor(const EngineBackend& backend) const;
  absl::Status MakeHeir(const EngineClusterOptions& options, ShardParts parts, ShardHost& host);

  std::optional<WeightFiles> files_;
  std::atomic<int64_t> loaded_bytes_ = 0;
  std::unique_ptr<Device> device_;
  Model model_;
  std::unique_ptr<Loopback> loopback_;
  int audit_one_in_ = 0;
  std::vector<Rank> ranks_;
  std::vector<ShardHost> shards_;
};

// Who looks at a prompt while it runs; both may be empty.
struct PromptWatch {
  StepProbe* probe = nullptr;
  std::function<bool()> abandoned = nullptr;  // see Batch
};

// A step and a cache, for prompts of up to max_rows ids, one after the other.
class PromptRunner {
 public:
  PromptRunner(const StepParts& parts, int max_rows,
               int min_micro_batch_rows = StepOptions().min_micro_batch_rows);
  // One step over a whole prompt: the log-probabilities after its last token.
  absl::StatusOr<std::vector<float>> Run(const std::vector<int32_t>& ids,
                                         absl::Duration expert_timeout,
                                         const PromptWatch& watch = {});

 private:
  absl::StatusOr<std::unique_ptr<Step>> step_;
  absl::StatusOr<KvCache> cache_;
};

// The same with a fresh step and cache.
absl::StatusOr<std::vector<float>> RunPrompt(const StepParts& parts,
                                             const std::vector<int32_t>& ids,
                                             absl::Duration expert_timeout,
                                             const PromptWatch& watch = {});

// Some ids of the model's vocabulary, the same for the same seed.
std::vector<int32_t> RandomIds(const ModelConfig& config, int num_ids, uint32_t seed);

}  // namespace orrery

#endif  // ORRERY_TESTS_ENGINE_ENGINE_CLUSTER_H_
