#include "rpc/tls/certificate_copies.h"

#include "base/log.h"

namespace orrery {

absl::StatusOr<std::unique_ptr<CertificateCopies>> CertificateCopies::Make(const TlsFiles& files) {
  std::unique_ptr<CertificateCopies> copies(new CertificateCopies(files));
  ASSIGN_OR_RETURN(const TlsTexts texts, ReadTlsFiles(files));
  RETURN_IF_ERROR(copies->Take(texts));
  const absl::Status validity = CheckIsValidNow(texts.certificate);
  if (!validity.ok()) LogWarning("TLS: ", std::string(validity.message()));
  LogInfo("TLS: ", DescribeCertificate(texts.certificate));
  return copies;
}

TlsFiles CertificateCopies::paths() const {
  return {.certificate = certificate_.path(), .private_key = private_key_.path(), .ca = ca_.path()};
}

absl::Status CertificateCopies::Take(const TlsTexts& texts) {
  RETURN_IF_ERROR(certificate_.Replace(texts.certificate));
  RETURN_IF_ERROR(private_key_.Replace(texts.private_key));
  RETURN_IF_ERROR(ca_.Replace(texts.ca));
  taken_ = texts;
  return absl::OkStatus();
}

void CertificateCopies::Look() {
  const absl::StatusOr<TlsTexts> texts = ReadTlsFiles(files_);
  if (texts.ok() && *texts == taken_) {
    num_bad_looks_ = 0;
    return;
  }
  absl::Status status = texts.status();
  // One that is not valid is no worse than another.
  if (status.ok() && CheckIsValidNow(taken_.certificate).ok()) {
    status = CheckIsValidNow(texts->certificate);
  }
  if (status.ok()) status = Take(*texts);
  if (status.ok()) {
    num_bad_looks_ = 0;
    LogInfo("TLS: new files: ", DescribeCertificate(taken_.certificate));
    return;
  }
  num_bad_looks_ = status == problem_ ? num_bad_looks_ + 1 : 1;
  problem_ = status;
  // One look may fall between the writing of two files; what is still wrong at the next one is wrong.
  if (num_bad_looks_ == 2) {
    LogWarning("TLS: new files are not taken, those from before stay in use: ",
               std::string(status.message()));
  }
}

}  // namespace orrery
