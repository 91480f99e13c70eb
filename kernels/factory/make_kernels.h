// The one place that knows every implementation of Kernels, and the device that each computes on. Code
// that only computes includes kernels/kernels.h.
//
//   ASSIGN_OR_RETURN(Backend backend, ParseBackend(flag));
//   ASSIGN_OR_RETURN(std::unique_ptr<Device> device, MakeDevice(backend));
//   std::unique_ptr<Stream> stream = device->MakeStream();
//   ASSIGN_OR_RETURN(std::unique_ptr<Kernels> kernels,
//                    MakeKernels(backend, CpuVariant::kBest, stream.get()));
//
// Errors: FAILED_PRECONDITION when this program or machine cannot run what was asked for, with what it
// can; UNAVAILABLE without a GPU of that number, with how many there are.
#ifndef ORRERY_KERNELS_FACTORY_MAKE_KERNELS_H_
#define ORRERY_KERNELS_FACTORY_MAKE_KERNELS_H_

#include <memory>
#include <string_view>

#include "base/status.h"
#include "device/device.h"
#include "kernels/cpu/cpu_threads.h"
#include "kernels/cpu/cpu_variant.h"  // CpuVariant, ParseCpuVariant
#include "kernels/kernels.h"

namespace orrery {

enum class Backend { kCpu, kReference, kCuda };

// "cpu", "reference", "cuda"; anything else is INVALID_ARGUMENT.
absl::StatusOr<Backend> ParseBackend(std::string_view name);

// Where the kernels of a backend compute: the host or, of cuda, this GPU.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(Backend backend, int gpu = 0);

// The variant and the threads concern the cpu backend only. Work goes to the stream, which must outlive the
// kernels; the host backends compute at once and do not use it (it may be null). cuda needs a stream of
// device/cuda, and a build with --config=cuda.
absl::StatusOr<std::unique_ptr<Kernels>> MakeKernels(Backend backend, CpuVariant variant,
                                                     Stream* stream,
                                                     const CpuThreads& threads = {});

}  // namespace orrery

#endif  // ORRERY_KERNELS_FACTORY_MAKE_KERNELS_H_
