// The math contract on an NVIDIA GPU.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeCudaDevice(0));
//   std::unique_ptr<Stream> stream = device->MakeStream();
//   ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels, MakeCudaKernels(stream.get()));
//
// This header needs no CUDA, so that whoever chooses an implementation can include it.
//
// Family "cuda-mma-1-smXY", or "cuda-wgmma-1-sm90" where there are kernels of wgmma. Sums stand in one order, written
// down at the top of each .cu.cc file; only the order within one mma.sync or wgmma is the GPU's own, is documented nowhere, and was found to differ
// between generations (M. Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021). Hence the
// compute capability in the name.
//
// Beyond what kernels.h says: matrices must not overlap but where an operation allows in place; encoded
// rows lie on a border of 4 bytes.
// Errors: FAILED_PRECONDITION for a stream of another device, for a GPU before sm_80, and for one that this program
// was not built for, with both architectures. Those of queued work surface in the stream's Synchronize().
#ifndef ORRERY_KERNELS_CUDA_MAKE_CUDA_KERNELS_H_
#define ORRERY_KERNELS_CUDA_MAKE_CUDA_KERNELS_H_

#include <memory>

#include "base/status.h"
#include "device/device.h"
#include "kernels/kernels.h"

namespace orrery {

// Work goes to the stream, which must outlive the kernels.
absl::StatusOr<std::unique_ptr<Kernels>> MakeCudaKernels(Stream* stream);

}  // namespace orrery

#endif  // ORRERY_KERNELS_CUDA_MAKE_CUDA_KERNELS_H_
