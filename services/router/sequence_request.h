// A checked request and its prompt, as an attention rank takes them.
//
//   internal::SequenceRequest sequence = MakeSequenceRequest(model, request, prompt, {.request_id = "router-0-5f3a-7"});
//
// Everything but the routing is decided here: stop ids are the model's own (unless they are ignored) and
// the request's; the model's thinking markers are silent; the cache salt keeps the prefix caches of tenants apart. Pure but for the seed of a
// request that brings none.
#ifndef ORRERY_SERVICES_ROUTER_SEQUENCE_REQUEST_H_
#define ORRERY_SERVICES_ROUTER_SEQUENCE_REQUEST_H_

#include <cstdint>
#include <string>

#include "proto/attention.pb.h"
#include "proto/orrery.pb.h"
#include "services/router/prompt.h"
#include "services/router/served_model.h"

namespace orrery {

struct SequenceOptions {
  std::string request_id;
  // One salt for all tenants instead of one each.
  bool share_prefix_cache = false;
};

// `request` and `prompt` as BuildPrompt accepted them.
internal::SequenceRequest MakeSequenceRequest(const ServedModel& model,
                                              const v1::GenerateRequest& request,
                                              const Prompt& prompt, const SequenceOptions& options);

// A fresh seed for a request that brings none.
uint64_t DrawSeed();

}  // namespace orrery

#endif  // ORRERY_SERVICES_ROUTER_SEQUENCE_REQUEST_H_
