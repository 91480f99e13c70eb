// A checkpoint with random weights in any DeepSeek shape, for shapes that no golden has.
#ifndef ORRERY_TESTS_GOLDEN_RANDOM_CHECKPOINT_H_
#define ORRERY_TESTS_GOLDEN_RANDOM_CHECKPOINT_H_

#include <cstdint>
#include <string>

namespace orrery {

struct RandomShape {
  int hidden = 50;
  int num_layers = 3;
  int num_dense_layers = 1;
  int num_heads = 3;
  int q_lora = 0;
  int kv_lora = 20;
  int nope = 10;
  int rope = 6;
  int value = 14;
  int num_experts = 24;
  int num_groups = 3;
  int num_kept_groups = 2;
  int topk = 5;
  int num_shared = 1;
  int moe_width = 22;
  int dense_width = 70;
  int vocab = 101;
  int num_mtp_layers = 0;
  std::string scoring = "sigmoid";
  std::string method = "noaux_tc";
  bool normalize = true;
};

// Writes config.json and model.safetensors (bf16, gate bias f32) into a fresh folder and returns
// it. The same seed gives the same bytes.
std::string WriteRandomCheckpoint(const RandomShape& shape, uint64_t seed);

}  // namespace orrery

#endif  // ORRERY_TESTS_GOLDEN_RANDOM_CHECKPOINT_H_
