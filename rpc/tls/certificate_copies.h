// Copies in memory of TLS files that may change while a process runs. The copies are always good.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<CertificateCopies> copies, CertificateCopies::Make(files));
//   copies->paths().certificate        // where the copy is
//   copies->Look();                    // now and then
//
// New files that fit together (tls_files.h) take the place of the copies. Others change nothing, are logged once,
// and are taken when they are repaired. gRPC watches files, too, but takes whatever it finds, and its handshakes
// fail until they are repaired; so it watches these copies.
//
// Errors of Make: those of ReadTlsFiles. Threads: one that looks, any that open the paths.
#ifndef ORRERY_RPC_TLS_CERTIFICATE_COPIES_H_
#define ORRERY_RPC_TLS_CERTIFICATE_COPIES_H_

#include <memory>

#include "base/status.h"
#include "rpc/tls/memory_file.h"
#include "rpc/tls/tls_files.h"

namespace orrery {

class CertificateCopies {
 public:
  static absl::StatusOr<std::unique_ptr<CertificateCopies>> Make(const TlsFiles& files);

  // The same for life.
  TlsFiles paths() const;
  // Reads the files.
  void Look();

 private:
  explicit CertificateCopies(const TlsFiles& files) : files_(files) {}
  absl::Status Take(const TlsTexts& texts);

  const TlsFiles files_;
  TlsTexts taken_;
  MemoryFile certificate_, private_key_, ca_;
  absl::Status problem_;   // of the last look
  int num_bad_looks_ = 0;  // in a row, with this problem
};

}  // namespace orrery

#endif  // ORRERY_RPC_TLS_CERTIFICATE_COPIES_H_
