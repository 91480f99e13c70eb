// What is captured on the stand-in's streams: asked by whatever runs work on a stream, or does what a
// capture forbids.
//
//   if (Captures(stream, work)) return cudaSuccess;            // it is kept, and nothing happens now
//   if (RefusedByCapture()) return cudaErrorStreamCaptureUnsupported;
//
// Captures are of the mode cudaStreamCaptureModeThreadLocal: what waits, allocates or frees is refused to
// the thread that captures, and makes its capture void. Events within a capture are not modelled, and refused.
//
// Threads: any; a capture belongs to the thread that began it.
#ifndef ORRERY_TESTS_CUDA_GRAPHS_H_
#define ORRERY_TESTS_CUDA_GRAPHS_H_

#include <cuda_runtime_api.h>

#include <functional>

namespace cuda_on_host {

// Keeps the work, if the stream is captured.
bool Captures(cudaStream_t stream, std::function<void()>& work);
// Whether this thread captures.
bool RefusedByCapture();

}  // namespace cuda_on_host

#endif  // ORRERY_TESTS_CUDA_GRAPHS_H_
