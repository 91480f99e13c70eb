#include "rpc/peer_check.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "grpc/grpc_security_constants.h"
#include "rpc/rare_warnings.h"
#include "rpc/status.h"

namespace orrery {
namespace {

// How many names of a stranger are repeated.
constexpr size_t kMaxNames = 4;

std::vector<std::string> ToStrings(const std::vector<grpc::string_ref>& names) {
  std::vector<std::string> strings;
  for (const grpc::string_ref& name : names) strings.emplace_back(name.data(), name.size());
  return strings;
}

bool IsAnyIn(const std::vector<std::string>& names, const std::vector<std::string>& allowed) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(allowed.begin(), allowed.end(), name) != allowed.end();
  });
}

std::string Listed(std::vector<std::string> names) {
  if (names.empty()) return "nobody by a URI";
  names.resize(std::min(names.size(), kMaxNames));
  return absl::StrJoin(names, " ");
}

// "orrery.internal.Expert" of "/orrery.internal.Expert/Exchange".
std::string ServiceOf(const std::multimap<grpc::string_ref, grpc::string_ref>& call) {
  const auto found = call.find(":path");
  if (found == call.end() || found->second.empty()) return "";
  const std::string path(found->second.data() + 1, found->second.size() - 1);
  return path.substr(0, path.find('/'));
}

// One for the process, which may have many connections to one server.
RareWarnings& Warnings() {
  static auto& warnings = *new RareWarnings;
  return warnings;
}

class CallerCheck : public grpc::AuthMetadataProcessor {
 public:
  CallerCheck(std::vector<std::string> callers,
              std::map<std::string, std::vector<std::string>> service_callers)
      : callers_(std::move(callers)), service_callers_(std::move(service_callers)) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& call, grpc::AuthContext* context, OutputMetadata*,
                       OutputMetadata*) override {
    const auto names = ToStrings(context->FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME));
    const std::string service = ServiceOf(call);
    const auto special = service_callers_.find(service);
    const std::vector<std::string>& callers =
        special == service_callers_.end() ? callers_ : special->second;
    if (IsAnyIn(names, callers)) return grpc::Status::OK;
    const std::string who = absl::StrCat(
        Listed(names), " (common name \"",
        absl::StrJoin(ToStrings(context->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME)), " "),
        "\")");
    const std::string may =
        absl::StrCat("; who may call ", service, " here: ", absl::StrJoin(callers, " "));
    Warnings().Warn(absl::StrCat("refused a call: its certificate names ", who, may));
    return ToGrpcStatus(
        absl::PermissionDeniedError(absl::StrCat("your certificate names ", who, may)));
  }

 private:
  const std::vector<std::string> callers_;
  const std::map<std::string, std::vector<std::string>> service_callers_;
};

class ServerVerifier : public grpc::experimental::ExternalCertificateVerifier {
 public:
  ServerVerifier(std::string address, std::vector<std::string> servers)
      : address_(std::move(address)), servers_(std::move(servers)) {}

  bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request,
              std::function<void(grpc::Status)>, grpc::Status* sync_status) override {
    const std::vector<std::string> names = ToStrings(request->uri_names());
    if (!IsAnyIn(names, servers_)) {
      const std::string problem =
          absl::StrCat("the certificate of ", address_, " names ", Listed(names),
                       "; who is expected there: ", absl::StrJoin(servers_, " "));
      Warnings().Warn(problem);
      *sync_status = ToGrpcStatus(absl::UnauthenticatedError(problem));
    }
    return true;
  }

  void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {}

 private:
  const std::string address_;
  const std::vector<std::string> servers_;
};

}  // namespace

std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallerCheck(
    std::vector<std::string> callers,
    std::map<std::string, std::vector<std::string>> service_callers) {
  return std::make_shared<CallerCheck>(std::move(callers), std::move(service_callers));
}

std::shared_ptr<grpc::experimental::CertificateVerifier> MakeServerVerifier(
    std::string address, std::vector<std::string> servers) {
  return grpc::experimental::ExternalCertificateVerifier::Create<ServerVerifier>(
      std::move(address), std::move(servers));
}

}  // namespace orrery
