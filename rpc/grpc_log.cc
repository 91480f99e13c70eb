#include "rpc/grpc_log.h"

#include <mutex>

#include "absl/strings/str_cat.h"
#include "grpc/support/log.h"
#include "rpc/rare_warnings.h"

namespace orrery {

void TakeOverGrpcLog() {
  static std::once_flag taken;
  std::call_once(taken, [] {
    gpr_set_log_function([](gpr_log_func_args* args) {
      static auto& warnings = *new RareWarnings;
      warnings.Warn(absl::StrCat("gRPC: ", args->message));
    });
  });
}

}  // namespace orrery
