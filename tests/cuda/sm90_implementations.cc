// The conformance suites of kernels/, linked with this, test kernels/cuda as it is on sm_90a, on the stand-in.

#include "device/cuda/cuda_device.h"
#include "kernels/conformance/kernels_testing.h"
#include "kernels/conformance/mirrored_kernels.h"
#include "kernels/cuda/make_cuda_kernels.h"
#include "tests/cuda/machine.h"

namespace orrery {

std::vector<Implementation> AllImplementations() {
  return {{"cuda_sm90", []() -> absl::StatusOr<std::unique_ptr<Kernels>> {
             cuda_on_host::TheMachine() = cuda_on_host::kSm90;
             ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(0));
             std::unique_ptr<Stream> stream = device->MakeStream();
             ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeCudaKernels(stream.get()));
             return std::make_unique<MirroredKernels>(std::move(device), std::move(stream),
                                                      std::move(kernels));
           }}};
}

}  // namespace orrery
