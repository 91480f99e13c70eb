// The tokens with which clients continue answers: made, signed, and read again.
//
//   ASSIGN_OR_RETURN(ResumeTokens tokens, ResumeTokens::WithKeyFile(cluster.resume_key_file()));
//   started.set_resume_token(tokens.Make(sequence, model));
//   ...                                          // at this router or another one with this key
//   ASSIGN_OR_RETURN(ResumePoint point, tokens.Read(request.resume().token()));
//   RETURN_IF_ERROR(tokens.CheckRequest(point, sequence));
//
// A token binds a request, and with it its tenant, its seed and its model: what the client sends along must be
// that request again. It is signed, not secret: it says the request's id, its seed and hashes of the model's
// files. What routers fill in where the client said nothing, they fill in as the first one did. (proto/resume.proto)
//
// Errors: FAILED_PRECONDITION (damaged, or of a router with another key), INVALID_ARGUMENT (of another
// request). Threads: immutable.
#ifndef ORRERY_SERVICES_ROUTER_RESUME_TOKEN_H_
#define ORRERY_SERVICES_ROUTER_RESUME_TOKEN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "proto/attention.pb.h"
#include "services/router/membership.h"

namespace orrery {

struct ResumePoint {
  std::string request_id;
  uint64_t seed = 0;
  int max_new_tokens = 0;  // 0: of a router that did not say
  ModelIdentity model;
  std::string request_mac;
};

class ResumeTokens {
 public:
  // NOT_FOUND or PERMISSION_DENIED (the file), INVALID_ARGUMENT (its size).
  static absl::StatusOr<ResumeTokens> WithKeyFile(const std::string& path);
  // Of this process: no other router can read its tokens.
  static ResumeTokens WithRandomKey();

  // Of what a new request's sequence says; so_far and attempt do not count.
  std::string Make(const internal::SequenceRequest& sequence, const ModelIdentity& model) const;

  absl::StatusOr<ResumePoint> Read(const std::string& token) const;
  absl::Status CheckRequest(const ResumePoint& point,
                            const internal::SequenceRequest& sequence) const;

 private:
  explicit ResumeTokens(std::string key) : key_(std::move(key)) {}
  // `purpose` keeps what is signed for one purpose from being taken for another.
  std::string Mac(std::string_view purpose, std::string_view bytes) const;
  std::string RequestMac(internal::SequenceRequest sequence) const;

  std::string key_;
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_RESUME_TOKEN_H_
