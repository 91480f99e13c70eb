// The kernels that walk along one row.
//
// Everything is a template over Lanes: see the rule in lanes_scalar.h.
#ifndef ORRERY_KERNELS_CPU_ROW_KERNELS_INL_H_
#define ORRERY_KERNELS_CPU_ROW_KERNELS_INL_H_

#include <stdint.h>
#include <xmmintrin.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/operands-inl.h"

namespace orrery {

template <typename Form, typename Lanes>
void PrepareRow(const float* from, int num, int padded, bool round, typename Form::Value* to) {
  int end = 0;
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes x = LoadStep<Lanes>(from + i, n);
    Form::StoreInputs(round ? Lanes::RoundToBf16(x) : x, to + i);
    end = i + kVectorLanes;
  });
  for (; end < padded; end += kVectorLanes) Form::StoreInputs(Lanes::Set(0.0f), to + end);
}

template <typename Lanes>
void PrepareRows(const PrepareJob& job) {
  auto prepare = [&]<typename Form>() {
    for (int64_t r = 0; r < job.num_rows; ++r) {
      auto* const to = reinterpret_cast<typename Form::Value*>(job.to + r * job.to_stride);
      PrepareRow<Form, Lanes>(job.from + r * job.from_stride, job.num, job.padded, job.round, to);
    }
  };
  if (job.round) {
    prepare.template operator()<RoundedForm<Lanes>>();
  } else {
    prepare.template operator()<F32Form<Lanes>>();
  }
}

template <typename Lanes>
void WidenRow(const uint16_t* from, int num, float* to) {
  ForEachStep<Lanes>(num,
                     [&](int i, int n) { StoreStep(LoadBf16Step<Lanes>(from + i, n), n, to + i); });
}

template <typename Lanes>
void RoundRow(const float* from, int num, uint16_t* to) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes rounded = Lanes::RoundToBf16(LoadStep<Lanes>(from + i, n));
    if (n == kVectorLanes) {
      rounded.StoreBf16(to + i);
      return;
    }
    uint16_t bits[kVectorLanes];
    rounded.StoreBf16(bits);
    __builtin_memcpy(to + i, bits, n * sizeof(uint16_t));
  });
}

template <typename Lanes>
float LargestMagnitude(const float* x, int num) {
  Lanes largest = Lanes::Set(0.0f);
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes value = LoadStep<Lanes>(x + i, n);
    largest = Lanes::Max(Lanes::Max(value, Lanes::Set(0.0f) - value), largest);
  });
  return MaxLane(largest);
}

// To fp8, after division by the scale; and back.
template <typename Lanes>
void EncodeFp8(const float* from, float scale, int num, uint8_t* to) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes value = LoadStep<Lanes>(from + i, n) / Lanes::Set(scale);
    if (n == kVectorLanes) return value.StoreFp8(to + i);
    uint8_t codes[kVectorLanes];
    value.StoreFp8(codes);
    __builtin_memcpy(to + i, codes, n);
  });
}
template <typename Lanes>
void DecodeFp8(const uint8_t* from, float scale, int num, float* to) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    uint8_t codes[kVectorLanes] = {};
    const uint8_t* at = from + i;
    if (n < kVectorLanes) at = static_cast<uint8_t*>(__builtin_memcpy(codes, at, n));
    StoreStep(Lanes::LoadFp8(at) * Lanes::Set(scale), n, to + i);
  });
}

template <typename Lanes>
void SiluTimes(float* gate, const float* up, int num) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes product = Silu(LoadStep<Lanes>(gate + i, n)) * LoadStep<Lanes>(up + i, n);
    StoreStep(product, n, gate + i);
  });
}

// Squares are summed in 16 fused chains (element i in chain i % 16), the chains by SumLanes.
template <typename Lanes>
void RmsNorm(const float* x, const float* weight, float eps, int num, float* out) {
  Lanes sum = Lanes::Set(0.0f);
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes value = LoadStep<Lanes>(x + i, n);
    sum = Lanes::Fma(value, value, sum);
  });
  const float mean = SumLanes(sum) / static_cast<float>(num);
  const Lanes root = Lanes::Set(_mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps))));
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes normed = LoadStep<Lanes>(x + i, n) / root;
    StoreStep(LoadStep<Lanes>(weight + i, n) * normed, n, out + i);
  });
}

template <typename Lanes>
void Divide(const float* from, float divisor, int num, float* to) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    StoreStep(LoadStep<Lanes>(from + i, n) / Lanes::Set(divisor), n, to + i);
  });
}

template <typename Lanes>
void Add(const float* y, int num, float* x) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    StoreStep(LoadStep<Lanes>(x + i, n) + LoadStep<Lanes>(y + i, n), n, x + i);
  });
}

template <typename Lanes>
void AddTimes(const float* y, float factor, int num, float* x) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes sum =
        Lanes::Fma(Lanes::Set(factor), LoadStep<Lanes>(y + i, n), LoadStep<Lanes>(x + i, n));
    StoreStep(sum, n, x + i);
  });
}

template <typename Lanes>
void SigmoidRow(const float* x, int num, float* out) {
  ForEachStep<Lanes>(
      num, [&](int i, int n) { StoreStep(Sigmoid(LoadStep<Lanes>(x + i, n)), n, out + i); });
}

template <typename Lanes>
float MaxValue(const float* x, int num) {
  const float lowest = -__builtin_inff();
  Lanes max = Lanes::Set(lowest);
  ForEachStep<Lanes>(
      num, [&](int i, int n) { max = Lanes::Max(max, LoadStep<Lanes>(x + i, n, lowest)); });
  return MaxLane(max);
}

// The lanes past the end hold exp(-infinity) = 0.
template <typename Lanes>
float SumExp(const float* x, float max, int num, float* out) {
  Lanes sum = Lanes::Set(0.0f);
  ForEachStep<Lanes>(num, [&](int i, int n) {
    const Lanes term = Exp(LoadStep<Lanes>(x + i, n, -__builtin_inff()) - Lanes::Set(max));
    sum = sum + term;
    if (out != nullptr) StoreStep(term, n, out + i);
  });
  return SumLanes(sum);
}

template <typename Lanes>
void Subtract(const float* x, float a, float b, int num, float* out) {
  ForEachStep<Lanes>(num, [&](int i, int n) {
    StoreStep(LoadStep<Lanes>(x + i, n) - Lanes::Set(a) - Lanes::Set(b), n, out + i);
  });
}

}  // namespace orrery

#endif  // ORRERY_KERNELS_CPU_ROW_KERNELS_INL_H_
