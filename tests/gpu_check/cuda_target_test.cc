// tools/bench/kernels/cuda on the stand-in: what it measures means nothing there, that it measures does.
#include "tools/bench/kernels/cuda/cuda_target.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace orrery {
namespace {

// A library whose products are copies of a byte, and which does not know fp8 unless told so.
class FakeGemms : public GemmLibrary {
 public:
  explicit FakeGemms(bool has_fp8) : has_fp8_(has_fp8) {}
  std::string name() const override { return "Fake"; }
  std::string version() const override { return "Fake 1.0"; }
  absl::StatusOr<std::unique_ptr<PeerProduct>> Make(const PeerProduct::Shape& shape, Device& device,
                                                    CudaStream& stream) override {
    if (shape.operands == Operands::kFp8 && !has_fp8_) return absl::UnimplementedError("no fp8");
    ASSIGN_OR_RETURN(Buffer bytes, device.Allocate(2, MemoryKind::kDevice));
    return std::make_unique<Product>(std::move(bytes), &stream);
  }

 private:
  class Product : public PeerProduct {
   public:
    Product(Buffer bytes, CudaStream* stream) : bytes_(std::move(bytes)), stream_(*stream) {}
    absl::Status Run() override {
      stream_.CopyOnDevice(bytes_.as<char>() + 1, bytes_.data(), 1);
      return absl::OkStatus();
    }

   private:
    Buffer bytes_;
    CudaStream& stream_;
  };
  bool has_fp8_;
};

CudaTargetOptions Small() {
  CudaTargetOptions options;
  options.working_set_bytes = 10'000;
  options.copy_bytes = 10'000;
  options.gemm_size = 8;
  return options;
}

TEST(CudaTarget, MeasuresCopyProductsAndCalls) {
  CudaTargetOptions options = Small();
  options.gemms = std::make_unique<FakeGemms>(/*has_fp8=*/true);
  const auto target = MakeCudaTarget(std::move(options));
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ((*target)->facts().peer, "Fake");
  EXPECT_EQ((*target)->note(), "");
  const auto ceilings = (*target)->SampleCeilings();
  ASSERT_TRUE(ceilings.ok()) << ceilings.status();
  ASSERT_EQ(ceilings->size(), 2u);
  for (const NamedCeilings& ceiling : *ceilings) {
    EXPECT_GT(ceiling.ceilings.bytes_per_s, 0.0) << ceiling.name;
    EXPECT_GT(ceiling.ceilings.flops_per_s, 0.0) << ceiling.name;
  }
  int num_calls = 0;
  const auto seconds = (*target)->SecondsPerCall([&] { ++num_calls; }, absl::Microseconds(1));
  ASSERT_TRUE(seconds.ok()) << seconds.status();
  EXPECT_GT(*seconds, 0.0);
  EXPECT_GE(num_calls, 1);
}

TEST(CudaTarget, WithoutFp8ProductsTheCeilingIsThatOfBf16) {
  CudaTargetOptions options = Small();
  options.gemms = std::make_unique<FakeGemms>(/*has_fp8=*/false);
  const auto target = MakeCudaTarget(std::move(options));
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ((*target)->note(), "the ceiling and the peer of fp8 are those of bf16: no fp8");
  const auto ceilings =
      (*target)->MeasureCeilings(Operands::kFp8, /*with_compute=*/true, absl::ZeroDuration());
  ASSERT_TRUE(ceilings.ok()) << ceilings.status();
  EXPECT_GT(ceilings->flops_per_s, 0.0);
  const auto peer = (*target)->MakePeer(
      {.num_rows = 1, .num_inputs = 8, .num_outputs = 8, .operands = Operands::kFp8});
  EXPECT_TRUE(peer.ok()) << peer.status();
}

TEST(CudaTarget, WithoutALibraryNothingIsKnownOfComputing) {
  CudaTargetOptions options = Small();
  options.gemms = absl::UnavailableError("no library");
  const auto target = MakeCudaTarget(std::move(options));
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ((*target)->note(),
            "SKIPPED, the compute ceiling is not known and binds nothing: no library");
  const auto ceilings =
      (*target)->MeasureCeilings(Operands::kBf16, /*with_compute=*/true, absl::ZeroDuration());
  ASSERT_TRUE(ceilings.ok()) << ceilings.status();
  EXPECT_EQ(ceilings->flops_per_s, 0.0);
  const auto peer = (*target)->MakePeer({.num_rows = 1, .num_inputs = 8, .num_outputs = 8});
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(*peer, nullptr);
}

TEST(CudaTarget, RefusesADeviceThatIsNotThere) {
  CudaTargetOptions options = Small();
  options.device_index = 1000;
  EXPECT_EQ(MakeCudaTarget(std::move(options)).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace orrery
