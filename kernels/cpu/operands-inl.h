// What a product multiplies: panels, 16 outputs wide, and rows of activations; and the two forms
// that they have in memory.
//
// A sum has two chains, of the even and of the odd inputs (matmul-inl.h). Inputs come in groups of
// four, which give each chain a pair: chain 0 the inputs 0 and 2 of the group, chain 1 the inputs 1
// and 3.
//
//   F32Form    panel [input][16 outputs]                    row [input]
//   PairForm   panel [input / 4][chain][16 outputs][2]      row [input / 4][chain][2], of bf16,
//              with the first of a pair in the high half: see lanes_avx512.h
//
// Either way a group is 4 * 16 values of a panel and 4 of a row. Rows begin `padded` f32 values
// apart, also when they hold bf16.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_OPERANDS_INL_H_
#define ORRERY_KERNELS_CPU_OPERANDS_INL_H_

#include <stdint.h>

#include "kernels/cpu/math-inl.h"

namespace orrery {

template <typename Lanes>
struct F32Activations {
  // A pair is added one input after the other, because AVX2 has no registers to keep both.
  static constexpr int kStepsPerPair = 2;
  const float* data;
  int64_t row_stride;
  static Lanes Load(const float* group, int chain, int step) {
    return Lanes::Set(group[chain + 2 * step]);
  }
  static Lanes Add(Lanes input, Lanes weights, Lanes sum) {
    return Lanes::Fma(input, weights, sum);
  }
};

template <typename Lanes>
struct F32Panels {
  static constexpr int kPerUnit = 1;  // values of *data
  const float* data;
  int64_t panel_stride;
  static Lanes Load(const float* group, int chain, int step) {
    return Lanes::Load(group + (chain + 2 * step) * kVectorLanes);
  }
  static void Store(Lanes weights, int chain, int step, float* group) {
    weights.Store(group + (chain + 2 * step) * kVectorLanes);
  }
};

// Panels of pairs for activations that are f32.
template <typename Lanes>
struct WidenedPanels {
  static constexpr int kPerUnit = 1;  // values of *data
  const uint16_t* data;
  int64_t panel_stride;
  static Lanes Load(const uint16_t* group, int chain, int step) {
    Lanes second, first;
    Lanes::SplitBf16(Lanes::LoadBits(group + chain * 2 * kVectorLanes), second, first);
    return step == 0 ? first : second;
  }
};

template <typename Lanes>
struct PairActivations {
  static constexpr int kStepsPerPair = 1;
  const uint16_t* data;
  int64_t row_stride;
  static Lanes Load(const uint16_t* group, int chain, int) {
    return Lanes::SetPair(group + chain * 2);
  }
  static Lanes Add(Lanes pair, Lanes weights, Lanes sum) {
    return Lanes::AddDot(pair, weights, sum);
  }
};

template <typename Lanes>
struct PairPanels {
  static constexpr int kPerUnit = 1;  // values of *data
  const uint16_t* data;
  int64_t panel_stride;
  static Lanes Load(const uint16_t* group, int chain, int) {
    return Lanes::LoadBits(group + chain * 2 * kVectorLanes);
  }
  static void Store(Lanes pairs, int chain, int, uint16_t* group) {
    pairs.StoreBits(group + chain * 2 * kVectorLanes);
  }
  // Pairs of the inputs 0 and 1, and of 2 and 3.
  static void LoadInOrder(const uint16_t* group, Lanes& first, Lanes& last) {
    Lanes::PutInOrder(Load(group, 0, 0), Load(group, 1, 0), first, last);
  }
};

// Codes. Two in a byte lie in the order of PairForm. Single bytes do so but for this: of the two lines
// of a group, 32 bytes for each chain, pieces of 8 bytes take turns, because unpacking bytes to words
// makes two lines of them.
//
//   bytes of a group   line 0: 0..7 | line 1: 0..7 | line 0: 8..15 | line 1: 8..15 | ...
//
// What a chain's line is as two times 16 f32 values (of low halves, and of high ones), and as 16 pairs
// of bf16.
template <typename Lanes>
struct Fp8Code {
  static constexpr int kPerByte = 1;
  static constexpr int kMostRows = 30;  // see TileShape in matmul-inl.h; measured, as the next two
  static void Split(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    Lanes::SplitFp8(group, chain, low, high);
  }
  static Lanes Pairs(const uint8_t* group, int chain) { return Lanes::LookUpFp8(group, chain); }
  static void PairsInOrder(const uint8_t* group, Lanes& first, Lanes& last) {
    Lanes::LookUpFp8InOrder(group, first, last);
  }
};
template <typename Lanes>
struct Int8Code {
  static constexpr int kPerByte = 1;
  static constexpr int kMostRows = 30;
  static void Split(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    Lanes::SplitInt8(group, chain, low, high);
  }
  static Lanes Pairs(const uint8_t* group, int chain) { return Lanes::LookUpInt8(group, chain); }
  static void PairsInOrder(const uint8_t* group, Lanes& first, Lanes& last) {
    Lanes::LookUpInt8InOrder(group, first, last);
  }
};
template <typename Lanes>
struct Int4Code {
  static constexpr int kPerByte = 2;
  static constexpr int kMostRows = 6;
  static void Split(const uint8_t* group, int chain, Lanes& low, Lanes& high) {
    Lanes::SplitInt4(group + chain * kVectorLanes, low, high);
  }
  static Lanes Pairs(const uint8_t* group, int chain) {
    Lanes low, high;
    Split(group, chain, low, high);
    return Lanes::JoinUpper(high, low);
  }
  static void PairsInOrder(const uint8_t* group, Lanes& first, Lanes& last) {
    Lanes::PutInOrder(Pairs(group, 0), Pairs(group, 1), first, last);
  }
};

// Panels of codes: as pairs, and for activations that are f32.
template <typename Lanes, template <typename> typename Code>
struct CodePanels {
  static constexpr int kPerUnit = Code<Lanes>::kPerByte;
  const uint8_t* data;
  int64_t panel_stride;
  static Lanes Load(const uint8_t* group, int chain, int) {
    return Code<Lanes>::Pairs(group, chain);
  }
  static void LoadInOrder(const uint8_t* group, Lanes& first, Lanes& last) {
    Code<Lanes>::PairsInOrder(group, first, last);
  }
};
template <typename Lanes, template <typename> typename Code>
struct WidenedCodePanels {
  static constexpr int kPerUnit = Code<Lanes>::kPerByte;
  const uint8_t* data;
  int64_t panel_stride;
  [[gnu::always_inline]] static Lanes Load(const uint8_t* group, int chain, int step) {
    Lanes second, first;
    Code<Lanes>::Split(group, chain, second, first);
    return step == 0 ? first : second;
  }
};

template <typename Lanes>
struct F32Form {
  using Value = float;
  using Activations = F32Activations<Lanes>;
  using Panels = F32Panels<Lanes>;
  // What meets these activations when it comes as bf16, and as codes.
  using Bf16Weights = WidenedPanels<Lanes>;
  template <template <typename> typename Code>
  using CodedWeights = WidenedCodePanels<Lanes, Code>;

  static Activations RowsAt(const float* rows, int64_t padded) { return {rows, padded}; }
  // 16 inputs of a row.
  static void StoreInputs(Lanes x, Value* to) { x.Store(to); }
  // 32 inputs of a row that are bf16.
  static void StoreRow(Lanes words, Value* to) {
    uint16_t inputs[2 * kVectorLanes];
    words.StoreBits(inputs);
    Lanes::LoadBf16(inputs).Store(to);
    Lanes::LoadBf16(inputs + kVectorLanes).Store(to + kVectorLanes);
  }
  // A group of a panel: input by input, or as words of the inputs 0 and 1, 2 and 3.
  static void StoreGroup(const Lanes (&inputs)[4], Value* group) {
    for (int i = 0; i < 4; ++i) inputs[i].Store(group + i * kVectorLanes);
  }
  static void StoreGroup(Lanes first_two, Lanes last_two, Value* group) {
    Lanes inputs[4];
    Lanes::SplitBf16(first_two, inputs[0], inputs[1]);
    Lanes::SplitBf16(last_two, inputs[2], inputs[3]);
    StoreGroup(inputs, group);
  }
  // Two groups, panel_stride apart: each input has words of 32 outputs, two each.
  static void StoreTwoGroups(const Lanes (&inputs)[4], Value* group, int64_t panel_stride) {
    for (int i = 0; i < 4; ++i) {
      uint16_t outputs[2 * kVectorLanes];
      inputs[i].StoreBits(outputs);
      Lanes::LoadBf16(outputs + kVectorLanes).Store(group + panel_stride + i * kVectorLanes);
      Lanes::LoadBf16(outputs).Store(group + i * kVectorLanes);
    }
  }
};

template <typename Lanes>
struct PairForm {
  using Value = uint16_t;
  using Activations = PairActivations<Lanes>;
  using Panels = PairPanels<Lanes>;
  using Bf16Weights = PairPanels<Lanes>;
  template <template <typename> typename Code>
  using CodedWeights = CodePanels<Lanes, Code>;

  static Activations RowsAt(const float* rows, int64_t padded) {
    return {reinterpret_cast<const uint16_t*>(rows), 2 * padded};
  }
  static void StoreInputs(Lanes x, Value* to) { x.StorePairs(to); }
  static void StoreRow(Lanes words, Value* to) { Lanes::PairsOf(words).StoreBits(to); }
  static void StoreGroup(const Lanes (&inputs)[4], Value* group) {
    Lanes::JoinUpper(inputs[0], inputs[2]).StoreBits(group);
    Lanes::JoinUpper(inputs[1], inputs[3]).StoreBits(group + 2 * kVectorLanes);
  }
  static void StoreGroup(Lanes first_two, Lanes last_two, Value* group) {
    Lanes::JoinLower(first_two, last_two).StoreBits(group);
    Lanes::JoinUpper(first_two, last_two).StoreBits(group + 2 * kVectorLanes);
  }
  static void StoreTwoGroups(const Lanes (&inputs)[4], Value* group, int64_t panel_stride) {
    Value* const second = group + panel_stride;
    Lanes::JoinLast(inputs[0], inputs[2]).StoreBits(second);
    Lanes::JoinLast(inputs[1], inputs[3]).StoreBits(second + 2 * kVectorLanes);
    Lanes::JoinFirst(inputs[0], inputs[2]).StoreBits(group);
    Lanes::JoinFirst(inputs[1], inputs[3]).StoreBits(group + 2 * kVectorLanes);
  }
};

// The form of operands that are bf16 values.
template <typename Lanes, bool kDotsBf16 = Lanes::kDotsBf16>
struct RoundedFormOf {
  using Form = F32Form<Lanes>;
};
template <typename Lanes>
struct RoundedFormOf<Lanes, true> {
  using Form = PairForm<Lanes>;
};
template <typename Lanes>
using RoundedForm = typename RoundedFormOf<Lanes>::Form;

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_OPERANDS_INL_H_
