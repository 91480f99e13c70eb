// Passing absl::Status on: the macros that every fallible function uses.
//
//   ASSIGN_OR_RETURN(Config config, ReadConfig(path));
//   RETURN_IF_ERROR(Check(config));
//
// Status is for failures of the world (files, peers, requests); broken invariants of our own are
// ORRERY_CHECK.
#ifndef ORRERY_BASE_STATUS_H_
#define ORRERY_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RETURN_IF_ERROR(expr)                        \
  do {                                               \
    ::absl::Status orrery_status_ = (expr);          \
    if (!orrery_status_.ok()) return orrery_status_; \
  } while (false)

#define ORRERY_CONCAT_INNER_(a, b) a##b
#define ORRERY_CONCAT_(a, b) ORRERY_CONCAT_INNER_(a, b)
#define ASSIGN_OR_RETURN(lhs, expr) \
  ORRERY_ASSIGN_OR_RETURN_(ORRERY_CONCAT_(orrery_status_or_, __LINE__), lhs, expr)
#define ORRERY_ASSIGN_OR_RETURN_(var, lhs, expr) \
  auto var = (expr);                             \
  if (!var.ok()) return var.status();            \
  lhs = std::move(var).value()

#endif  // ORRERY_BASE_STATUS_H_
