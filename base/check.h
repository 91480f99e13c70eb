// ORRERY_CHECK: a broken invariant of our own ends the process and says where and with which
// values.
//
//   ORRERY_CHECK(row < num_rows) << "row " << row << " of " << num_rows;
//
// Never for input, files or peers: those get an absl::Status.
#ifndef ORRERY_BASE_CHECK_H_
#define ORRERY_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace orrery {

// Collects the message and aborts when the statement ends.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    message_ << file << ":" << line << ": check failed: " << condition << " ";
  }
  ~CheckFailure() {
    std::fprintf(stderr, "%s\n", message_.str().c_str());
    std::abort();
  }
  std::ostream& stream() { return message_; }

 private:
  std::ostringstream message_;
};

}  // namespace orrery

#define ORRERY_CHECK(condition) \
  if (condition) {              \
  } else /* NOLINT */           \
    ::orrery::CheckFailure(__FILE__, __LINE__, #condition).stream()

#endif  // ORRERY_BASE_CHECK_H_
