// How streams of the stand-in run work, for whatever queues work of its own on them: NCCL's.
//
//   cuda_on_host::RunOnStream(stream, [comm] { comm->Receive(...); });   // may take as long as it likes
//
// A copy or a kernel happens within the call, in its thread, while nothing before it in its stream is
// unfinished; otherwise it waits for that in the stream's own thread, as what is queued here and
// waits for events of other streams always do. The default stream (null) waits for nobody.
//
// Threads: any. Whoever queues what never ends gets a stream that never ends, as on a GPU: destroying it
// leaves its thread behind.
#ifndef ORRERY_TESTS_CUDA_STREAMS_H_
#define ORRERY_TESTS_CUDA_STREAMS_H_

#include <cuda_runtime_api.h>

#include <functional>

namespace cuda_on_host {

void RunOnStream(cudaStream_t stream, std::function<void()> work);
// As copies and kernels do: within the call if it can be, or kept if the stream is captured.
void RunInStream(cudaStream_t stream, std::function<void()> work);

}  // namespace cuda_on_host

#endif  // ORRERY_TESTS_CUDA_STREAMS_H_
