// The part of NCCL's API that the project calls, over host memory and Unix sockets: the same names, for
// code that is compiled without NCCL.
//
//   ncclGetUniqueId(&id);                                       // on one side, which tells the other
//   ncclCommInitRankConfig(&comm, 2, id, member, &config);      // on both, config.blocking = 0
//   ... until ncclCommGetAsyncError(comm, &state) says ncclSuccess ...
//   ncclSend(data, num_bytes, ncclUint8, 1, comm, stream);      // and ncclRecv on the other
//   ncclCommAbort(comm);
//
// Written from the API's documentation; values of enums are those of NCCL 2.28. Communicators have two
// members and never block the calling thread. How they behave, and how to make them misbehave: stand_in.h.
#ifndef ORRERY_TESTS_NCCL_INCLUDE_NCCL_H_
#define ORRERY_TESTS_NCCL_INCLUDE_NCCL_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#define NCCL_UNIQUE_ID_BYTES 128
struct ncclUniqueId {
  char internal[NCCL_UNIQUE_ID_BYTES];
};
typedef struct ncclComm* ncclComm_t;

enum ncclResult_t {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7,
};
enum ncclDataType_t { ncclUint8 = 1 };

struct ncclConfig_t {
  int blocking;
  int minCTAs;
  int maxCTAs;
};
#define NCCL_CONFIG_INITIALIZER \
  { 1, 0, 0 }

ncclResult_t ncclGetVersion(int* version);
const char* ncclGetErrorString(ncclResult_t result);
ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_members, ncclUniqueId id, int member,
                                    ncclConfig_t* config);
// What the communicator is at: ncclInProgress, ncclSuccess, or how it failed.
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state);
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclCommAbort(ncclComm_t comm);

#endif  // ORRERY_TESTS_NCCL_INCLUDE_NCCL_H_
