// The parts of gpu_check that are made when it starts, since they follow from its options, as tests of GoogleTest: one
// suite each, beside the suites that are linked.
//
//   RegisterInvariance(options);
//   return RUN_ALL_TESTS();
//
// What stands in the last table besides counts, a test says with Note(). What cannot be tested here is skipped, and says why.
#ifndef ORRERY_TESTS_GPU_CHECK_PARTS_H_
#define ORRERY_TESTS_GPU_CHECK_PARTS_H_

#include <functional>
#include <string>

#include "tests/gpu_check/options.h"

namespace orrery {

// Rows give the same bits for every number of rows that they come with.
void RegisterInvariance(const GpuCheckOptions& options);
// Every golden folder, with f32 and with bf16.
void RegisterGoldens(const GpuCheckOptions& options);
// Every problem of the model's eval.jsonl, through the engine.
void RegisterModel(const GpuCheckOptions& options);
// Rows between two processes on one GPU, of which one dies.
void RegisterCudaIpc(const GpuCheckOptions& options);
// A communicator of one member. Without NCCL it is skipped.
void RegisterNccl();
// Parts in small sizes under compute-sanitizer. Without it they are skipped.
void RegisterSanitizer(const GpuCheckOptions& options);
// Rows of `orrery bench kernels --device=cuda`.
void RegisterBench(const GpuCheckOptions& options);
// A decode step of the preset, attention and experts in two processes, beside its roofline.
void RegisterStep(const GpuCheckOptions& options);

void RegisterTest(const char* suite, const std::string& name, std::function<void()> body);
// A line for the table; from within a test.
void Note(const std::string& text);

}  // namespace orrery

#endif  // ORRERY_TESTS_GPU_CHECK_PARTS_H_
