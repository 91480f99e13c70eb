#include "services/router/parameter_check.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace orrery {
namespace {

constexpr int kMaxTopLogprobs = 20;
constexpr int kMaxChoices = 16;
constexpr int kMaxPriority = 100;
constexpr int kMaxStops = 16;
constexpr int kMaxStopBytes = 256;
constexpr int kMaxStopIds = 64;
constexpr int kMaxBiases = 1024;
constexpr float kMaxBias = 100.0f;
constexpr int kMaxTenantBytes = 64;
constexpr int kNoMax = std::numeric_limits<int>::max();

template <typename Number>
struct Range {
  const char* field;
  Number value, min, max;
};

template <typename Number>
absl::Status CheckRange(const std::string& field, Number value, Number min, Number max) {
  if (value >= min && value <= max) return absl::OkStatus();  // written so that NaN fails
  if constexpr (std::is_integral_v<Number>) {
    if (max == kNoMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " is ", value, ", must be at least ", min));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", must be ", min, " to ", max));
}

absl::Status CheckNumbers(const v1::GenerateRequest& request) {
  for (const Range<float>& range : {
           Range<float>{"temperature", request.temperature(), 0, 2},
           Range<float>{"top_p", request.top_p(), 0, 1},
           Range<float>{"min_p", request.min_p(), 0, 1},
           Range<float>{"repetition_penalty", request.repetition_penalty(), 0, 10},
           Range<float>{"presence_penalty", request.presence_penalty(), -2, 2},
           Range<float>{"frequency_penalty", request.frequency_penalty(), -2, 2},
       }) {
    RETURN_IF_ERROR(CheckRange(range.field, range.value, range.min, range.max));
  }
  for (const Range<int>& range : {
           Range<int>{"max_new_tokens", request.max_new_tokens(), 0, kNoMax},
           Range<int>{"min_new_tokens", request.min_new_tokens(), 0, kNoMax},
           Range<int>{"top_k", request.top_k(), 0, kNoMax},
           Range<int>{"num_top_logprobs", request.num_top_logprobs(), 0, kMaxTopLogprobs},
           Range<int>{"num_choices", request.num_choices(), 0, kMaxChoices},
           Range<int>{"priority", request.priority(), -kMaxPriority, kMaxPriority},
       }) {
    RETURN_IF_ERROR(CheckRange(range.field, range.value, range.min, range.max));
  }
  return absl::OkStatus();
}

absl::Status CheckCount(const char* field, int count, int max) {
  if (count <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", count, " entries, at most ", max, " are allowed"));
}

absl::Status CheckStops(const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(CheckCount("stop", request.stop_size(), kMaxStops));
  std::map<std::string, int> first_at;
  for (int i = 0; i < request.stop_size(); ++i) {
    const int num_bytes = static_cast<int>(request.stop(i).size());
    if (num_bytes < 1 || num_bytes > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "] has ", num_bytes, " bytes, must have 1 to ", kMaxStopBytes));
    }
    const auto [first, is_new] = first_at.emplace(request.stop(i), i);
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "] is the same as stop[", first->second, "]"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStopIds(const ServedModel& model, const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(CheckCount("stop_ids", request.stop_ids_size(), kMaxStopIds));
  const auto& eos_ids = model.config.eos_ids;
  std::set<int32_t> seen;
  for (int i = 0; i < request.stop_ids_size(); ++i) {
    const int32_t id = request.stop_ids(i);
    RETURN_IF_ERROR(
        CheckRange(absl::StrCat("stop_ids[", i, "]"), id, 0, model.config.vocab_size - 1));
    if (!seen.insert(id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop_ids[", i, "] is ", id, ", which stands before it already"));
    }
    if (request.ignore_eos() && std::find(eos_ids.begin(), eos_ids.end(), id) != eos_ids.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop_ids[", i, "] is ", id,
                       ", an end id of the model, but ignore_eos says that those do not count"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBias(const ServedModel& model, const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(
      CheckCount("logit_bias", static_cast<int>(request.logit_bias_size()), kMaxBiases));
  // In order, so that the same request gets the same message.
  const std::map<int32_t, float> biases(request.logit_bias().begin(), request.logit_bias().end());
  for (const auto& [id, bias] : biases) {
    RETURN_IF_ERROR(CheckRange("an id of logit_bias", id, 0, model.config.vocab_size - 1));
    RETURN_IF_ERROR(CheckRange(absl::StrCat("logit_bias[", id, "]"), bias, -kMaxBias, kMaxBias));
  }
  return absl::OkStatus();
}

absl::Status CheckTenant(const std::string& tenant) {
  if (tenant.size() > kMaxTenantBytes) {
    return absl::InvalidArgumentError(absl::StrCat("tenant has ", tenant.size(), " bytes, at most ",
                                                   kMaxTenantBytes, " are allowed"));
  }
  for (size_t i = 0; i < tenant.size(); ++i) {
    const auto byte = static_cast<unsigned char>(tenant[i]);
    if (absl::ascii_isprint(byte)) continue;
    return absl::InvalidArgumentError(absl::StrCat("tenant has byte 0x",
                                                   absl::Hex(byte, absl::kZeroPad2), " at ", i,
                                                   ", must be printable ASCII"));
  }
  return absl::OkStatus();
}

absl::Status CheckContradictions(const v1::GenerateRequest& request) {
  if (request.num_top_logprobs() > 0 && !request.logprobs()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "num_top_logprobs is ", request.num_top_logprobs(), " but logprobs are not asked for"));
  }
  if (request.max_new_tokens() > 0 && request.min_new_tokens() > request.max_new_tokens()) {
    return absl::InvalidArgumentError(absl::StrCat("min_new_tokens is ", request.min_new_tokens(),
                                                   ", more than max_new_tokens, ",
                                                   request.max_new_tokens()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckParameters(const ServedModel& model, const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(CheckNumbers(request));
  RETURN_IF_ERROR(CheckContradictions(request));
  RETURN_IF_ERROR(CheckStops(request));
  RETURN_IF_ERROR(CheckStopIds(model, request));
  RETURN_IF_ERROR(CheckBias(model, request));
  return CheckTenant(request.tenant());
}

}  // namespace orrery
