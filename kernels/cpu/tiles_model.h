// Tile registers in plain C++: what every operation means. tiles_amx.h does the same in hardware, and
// tile_*-inl.h are templates over the two, so that all but the instructions themselves is
// tested on every machine.
//
//   Tiles tiles;
//   tiles.Configure(num_rows);                  // of the registers 0..5; 6 and 7 have 16
//   tiles.Zero<0>();
//   tiles.LoadOnce<4>(activations, stride_bytes);  // [num_rows][32 bf16]
//   tiles.Load<6>(weights, stride_bytes);       // [16 pairs of inputs][16 outputs][2 bf16]
//   tiles.Multiply<0, 4, 6>();                  // [num_rows][16 f32]
//   tiles.Store<0>(sums, stride_bytes);
//   tiles.Release();
//
// TDPBF16PS, for each row and output: the even inputs summed in order in one chain from zero, the odd
// ones in another, both added, and that added to the sum. Products of bf16 are exact in f32, so it
// makes no difference whether steps are fused. Denormals are flushed on the way in and out: call with
// ScopedFlushDenormals. (Compared with the hardware over 768,000 results, no difference.)
#ifndef ORRERY_KERNELS_CPU_TILES_MODEL_H_
#define ORRERY_KERNELS_CPU_TILES_MODEL_H_

#include <stdint.h>

namespace orrery::isa_amx_model {

class Tiles {
 public:
  static constexpr const char* kName = "amx-model";

  void Configure(int num_rows) {
    for (int tile = 0; tile < 8; ++tile) num_rows_[tile] = tile < 6 ? num_rows : 16;
  }
  void Release() {}

  template <int kTile>
  void Zero() {
    for (auto& row : words_[kTile]) {
      for (float& word : row) word = 0.0f;
    }
  }
  template <int kTile>
  void Load(const void* from, int64_t stride_bytes) {
    for (int r = 0; r < num_rows_[kTile]; ++r) {
      __builtin_memcpy(words_[kTile][r], static_cast<const char*>(from) + r * stride_bytes, 64);
    }
  }
  template <int kTile>
  void LoadOnce(const void* from, int64_t stride_bytes) {
    Load<kTile>(from, stride_bytes);
  }
  template <int kTile>
  void Store(void* to, int64_t stride_bytes) {
    for (int r = 0; r < num_rows_[kTile]; ++r) {
      __builtin_memcpy(static_cast<char*>(to) + r * stride_bytes, words_[kTile][r], 64);
    }
  }
  template <int kSum, int kRows, int kColumns>
  void Multiply() {
    for (int r = 0; r < num_rows_[kSum]; ++r) {
      for (int column = 0; column < 16; ++column) {
        float even = 0.0f;
        float odd = 0.0f;
        for (int pair = 0; pair < 16; ++pair) {
          const uint32_t a = Bits(words_[kRows][r][pair]);
          const uint32_t b = Bits(words_[kColumns][pair][column]);
          even = __builtin_fmaf(Low(a), Low(b), even);
          odd = __builtin_fmaf(High(a), High(b), odd);
        }
        words_[kSum][r][column] += even + odd;
      }
    }
  }

 private:
  static uint32_t Bits(float word) { return __builtin_bit_cast(uint32_t, word); }
  static float Low(uint32_t pair) { return __builtin_bit_cast(float, pair << 16); }
  static float High(uint32_t pair) { return __builtin_bit_cast(float, pair & 0xffff0000u); }

  int num_rows_[8] = {};
  alignas(64) float words_[8][16][16] = {};  // or pairs of bf16
};

}  // namespace orrery::isa_amx_model

#endif  // ORRERY_KERNELS_CPU_TILES_MODEL_H_
