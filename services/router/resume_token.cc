#include "services/router/resume_token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "model/identity/fingerprint_proto.h"
#include "proto/resume.pb.h"

namespace orrery {
namespace {

constexpr size_t kMacBytes = 32;  // of SHA-256
constexpr size_t kMinKeyBytes = 32;
constexpr size_t kMaxKeyBytes = 4096;

bool AreEqual(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// Maps in one order, so that equal messages have equal bytes.
std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    ORRERY_CHECK(message.SerializeToCodedStream(&coded)) << message.GetTypeName();
  }
  return bytes;
}

}  // namespace

absl::StatusOr<ResumeTokens> ResumeTokens::WithKeyFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string key(kMaxKeyBytes + 1, '\0');
  if (!file.read(key.data(), static_cast<std::streamsize>(key.size())) && !file.eof()) {
    return absl::ErrnoToStatus(errno != 0 ? errno : EIO, absl::StrCat("resume_key_file ", path));
  }
  key.resize(file.gcount());
  if (key.size() < kMinKeyBytes || key.size() > kMaxKeyBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("resume_key_file ", path, " has ",
                     key.size() > kMaxKeyBytes ? "more than 4096" : absl::StrCat(key.size()),
                     " bytes, it must have ", kMinKeyBytes, " to ", kMaxKeyBytes,
                     " random ones: head -c 32 /dev/urandom > ", path));
  }
  return ResumeTokens(std::move(key));
}

ResumeTokens ResumeTokens::WithRandomKey() {
  std::random_device device;  // the kernel's
  std::string key;
  while (key.size() < kMinKeyBytes) {
    const uint32_t word = device();
    key.append(reinterpret_cast<const char*>(&word), sizeof(word));
  }
  return ResumeTokens(std::move(key));
}

std::string ResumeTokens::Make(const internal::SequenceRequest& sequence,
                               const ModelIdentity& model) const {
  internal::ResumeToken token;
  token.set_request_id(sequence.request_id());
  token.set_seed(sequence.sampling().seed());
  token.set_max_new_tokens(sequence.max_new_tokens());
  token.set_request_mac(RequestMac(sequence));
  *token.mutable_fingerprint() = ToProto(model.fingerprint);
  token.set_numerics_id(model.numerics_id);
  const std::string bytes = token.SerializeAsString();
  return Mac("token", bytes) + bytes;
}

absl::StatusOr<ResumePoint> ResumeTokens::Read(const std::string& token) const {
  internal::ResumeToken read;
  const std::string_view mac = std::string_view(token).substr(0, kMacBytes);
  const std::string_view bytes = std::string_view(token).substr(mac.size());
  if (!AreEqual(mac, Mac("token", bytes)) ||
      !read.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::FailedPreconditionError(
        "resume.token cannot be read: it is damaged, or comes from a router with another key (see "
        "resume_key_file of the cluster file)");
  }
  return ResumePoint{.request_id = read.request_id(),
                     .seed = read.seed(),
                     .max_new_tokens = read.max_new_tokens(),
                     .model = {FromProto(read.fingerprint()), read.numerics_id()},
                     .request_mac = read.request_mac()};
}

absl::Status ResumeTokens::CheckRequest(const ResumePoint& point,
                                        const internal::SequenceRequest& sequence) const {
  if (AreEqual(point.request_mac, RequestMac(sequence))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "resume.token was made for another request: send the one that it came with, unchanged");
}

std::string ResumeTokens::Mac(std::string_view purpose, std::string_view bytes) const {
  const std::string text = std::string(purpose) + ":" + std::string(bytes);
  std::string mac(kMacBytes, '\0');
  unsigned int num_bytes = 0;
  const auto* done = HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                          reinterpret_cast<unsigned char*>(mac.data()), &num_bytes);
  ORRERY_CHECK(done != nullptr && num_bytes == kMacBytes) << num_bytes << " bytes";
  return mac;
}

std::string ResumeTokens::RequestMac(internal::SequenceRequest sequence) const {
  sequence.clear_so_far();
  sequence.clear_attempt();
  return Mac("request", DeterministicBytes(sequence));
}

}  // namespace orrery
