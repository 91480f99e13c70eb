// The meaning half: names, addresses, numbers.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/processors.h"
#include "rpc/address.h"
#include "rpc/cluster_file.h"
#include "rpc/cluster_file_problems.h"
#include "rpc/tls/tls_files.h"

namespace orrery {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Places = google::protobuf::TextFormat::ParseInfoTree;

// A message of the file together with the places of its fields.
class Block {
 public:
  Block(const Message& message, const Places* places, FileProblem own_place)
      : message_(message), places_(places), own_place_(std::move(own_place)) {}

  // Where a field stands, or the block itself if the field is not there.
  FileProblem At(const std::string& field_name, int index = -1) const {
    const FieldDescriptor* field = message_.GetDescriptor()->FindFieldByName(field_name);
    if (places_ != nullptr) {
      const auto place = places_->GetLocation(field, index);
      if (place.line >= 0) return {place.line, place.column, ""};
    }
    return own_place_;
  }
  Block Nested(const Message& nested, const std::string& field_name, int index = -1) const {
    const FieldDescriptor* field = message_.GetDescriptor()->FindFieldByName(field_name);
    const Places* places = places_ == nullptr ? nullptr : places_->GetTreeForNested(field, index);
    return Block(nested, places, At(field_name, index));
  }

 private:
  const Message& message_;
  const Places* places_;
  FileProblem own_place_;
};

class Checker {
 public:
  Checker(const ParsedClusterText& parsed, std::vector<FileProblem>& problems)
      : cluster_(parsed.cluster),
        incomplete_(parsed.incomplete),
        file_(parsed.cluster, parsed.places.get(), {0, 0, ""}),
        problems_(problems) {}

  void CheckAll() {
    CheckModel();
    CheckNumerics();
    CheckExchange();
    CheckLimits();
    CheckTls();
    CheckEncryption();
    CheckMembers("router", cluster_.router());
    CheckMembers("attention", cluster_.attention());
    CheckMembers("expert", cluster_.expert());
    if (cluster_.router().empty()) AddMissing(FileProblem{}, "no router: at least one is needed");
    if (cluster_.attention().empty()) {
      AddMissing(FileProblem{}, "no attention rank: at least one is needed");
    }
  }

 private:
  void Add(FileProblem place, std::string message) {
    place.message = std::move(message);
    problems_.push_back(std::move(place));
  }
  void AddMissing(FileProblem place, std::string message) {
    if (!incomplete_) Add(std::move(place), std::move(message));
  }

  void CheckModel() {
    const Block block = file_.Nested(cluster_.model(), "model");
    if (cluster_.model().name().empty()) AddMissing(block.At("name"), "model.name is missing");
    if (cluster_.model().dir().empty()) AddMissing(block.At("dir"), "model.dir is missing");
  }

  // Names that do not exist are caught by the parser; numbers are not.
  void CheckNumerics() {
    const internal::Numerics& numerics = cluster_.numerics();
    const Block block = file_.Nested(numerics, "numerics");
    const auto check = [&](const char* name, bool valid, int value) {
      if (!valid) Add(block.At(name), absl::StrCat("numerics.", name, " has no value ", value));
    };
    check("precision", internal::Precision_IsValid(numerics.precision()), numerics.precision());
    check("row_format", internal::RowFormat_IsValid(numerics.row_format()), numerics.row_format());
    check("ffn_weights", internal::WeightFormat_IsValid(numerics.ffn_weights()),
          numerics.ffn_weights());
    check("ffn_products", internal::ProductFormat_IsValid(numerics.ffn_products()),
          numerics.ffn_products());
    if (numerics.ffn_products() == internal::PRODUCT_FORMAT_FP8) CheckFp8Products(block);
    check("linear_weights", internal::WeightFormat_IsValid(numerics.linear_weights()),
          numerics.linear_weights());
    check("backend", internal::Backend_IsValid(numerics.backend()), numerics.backend());
  }

  void CheckFp8Products(const Block& block) {
    const internal::Numerics& numerics = cluster_.numerics();
    if (numerics.ffn_weights() != internal::WEIGHT_FORMAT_UNSPECIFIED &&
        numerics.ffn_weights() != internal::WEIGHT_FORMAT_STORED) {
      Add(block.At("ffn_products"),
          "numerics.ffn_products PRODUCT_FORMAT_FP8 needs ffn_weights WEIGHT_FORMAT_STORED");
    }
    if (numerics.backend() == internal::BACKEND_UNSPECIFIED ||
        numerics.backend() == internal::BACKEND_CPU) {
      Add(block.At("ffn_products"),
          "numerics.ffn_products PRODUCT_FORMAT_FP8 needs backend BACKEND_CUDA or "
          "BACKEND_REFERENCE: the cpu backend does not multiply fp8 activations");
    }
  }

  void CheckExchange() {
    if (internal::Exchange_IsValid(cluster_.exchange())) return;
    Add(file_.At("exchange"), absl::StrCat("exchange has no value ", cluster_.exchange()));
  }

  void CheckLimits() {
    const internal::Limits& limits = cluster_.limits();
    const Block block = file_.Nested(limits, "limits");
    bool in_range = true;
    const auto check = [&](const char* name, int64_t value, int64_t max) {
      if (value < 0 || value > max) {
        in_range = false;
        Add(block.At(name), absl::StrCat("limits.", name, " is ", value, ", must be 0 to ", max));
      }
    };
    check("max_context_tokens", limits.max_context_tokens(), 1 << 24);
    check("max_waiting_requests", limits.max_waiting_requests(), 1 << 16);
    check("max_step_rows", limits.max_step_rows(), kMaxStepRows);
    check("expert_timeout_ms", limits.expert_timeout_ms(), 3'600'000);
    check("kv_cache_bytes", limits.kv_cache_bytes(), int64_t{1} << 46);
    check("max_prefill_rows", limits.max_prefill_rows(), kMaxStepRows);
    check("max_running_sequences", limits.max_running_sequences(), kMaxStepRows);
    check("num_draft_tokens", limits.num_draft_tokens(), 4);
    check("max_failed_shards", limits.max_failed_shards(),
          std::max(0, NumNeeded(cluster_.expert()) - 1));
    check("heir_bytes", limits.heir_bytes(), int64_t{1} << 46);
    check("min_hedge_ms", limits.min_hedge_ms(), 3'600'000);
    check("max_hedge_ms", limits.max_hedge_ms(), 3'600'000);
    check("max_hedge_percent", limits.max_hedge_percent(), 100);
    check("drain_ms", limits.drain_ms(), 3'600'000);
    check("audit_one_in", limits.audit_one_in(), 1'000'000'000);
    check("max_waiting_tokens", limits.max_waiting_tokens(), int64_t{1} << 40);
    check("balance_ms", limits.balance_ms(), 3'600'000);
    if (!in_range) return;
    CheckStepRows(limits, block);
    CheckHedges(limits, block);
  }

  void CheckHedges(const internal::Limits& given, const Block& block) {
    internal::Limits limits = given;
    FillLimitDefaults(limits);
    if (limits.min_hedge_ms() > limits.max_hedge_ms()) {
      Add(block.At("min_hedge_ms"),
          absl::StrCat("limits.min_hedge_ms is ", limits.min_hedge_ms(),
                       ", more than limits.max_hedge_ms, ", limits.max_hedge_ms()));
    }
    if (limits.max_hedge_ms() > limits.expert_timeout_ms()) {
      Add(block.At("max_hedge_ms"),
          absl::StrCat("limits.max_hedge_ms is ", limits.max_hedge_ms(),
                       ", more than limits.expert_timeout_ms, ", limits.expert_timeout_ms()));
    }
  }

  // What is not given is filled in so that it fits; what is given must.
  void CheckStepRows(const internal::Limits& given, const Block& block) {
    internal::Limits limits = given;
    FillLimitDefaults(limits);
    const int64_t needed =
        int64_t{limits.max_running_sequences()} * (1 + limits.num_draft_tokens());
    if (limits.max_step_rows() < needed) {
      Add(block.At("max_step_rows"),
          absl::StrCat("limits.max_step_rows is ", limits.max_step_rows(), ", but ",
                       limits.max_running_sequences(), " running sequences with 1 token and ",
                       limits.num_draft_tokens(), " drafts each need ", needed,
                       ": raise it, or lower max_running_sequences or num_draft_tokens"));
    }
    if (limits.max_prefill_rows() > limits.max_step_rows()) {
      Add(block.At("max_prefill_rows"),
          absl::StrCat("limits.max_prefill_rows is ", limits.max_prefill_rows(),
                       ", more than limits.max_step_rows, ", limits.max_step_rows()));
    }
  }

  void CheckTls() {
    if (!cluster_.has_tls()) return;
    const internal::Tls& tls = cluster_.tls();
    const Block block = file_.Nested(tls, "tls");
    const std::pair<const char*, const std::string*> parts[] = {{"certificate", &tls.certificate()},
                                                                {"private_key", &tls.private_key()},
                                                                {"ca", &tls.ca()}};
    for (const auto& [name, value] : parts) {
      if (value->empty()) {
        AddMissing(block.At(name), absl::StrCat("tls.", name,
                                                " is missing: certificate, private_key and ca are "
                                                "needed together"));
      }
    }
    if (!tls.trust_domain().empty()) {  // else the default
      const absl::Status status = CheckTrustDomain(tls.trust_domain());
      if (!status.ok()) {
        Add(block.At("trust_domain"),
            absl::StrCat("tls.trust_domain: ", std::string(status.message())));
      }
    }
    for (int i = 0; i < tls.client_size(); ++i) {
      if (tls.client(i).find("://") != std::string::npos) continue;
      Add(block.At("client", i), absl::StrCat("tls.client \"", tls.client(i),
                                              "\" is no URI, such as spiffe://orrery/client"));
    }
  }

  void CheckEncryption() {
    const bool has_tls = cluster_.has_tls();
    if (cluster_.require_encryption()) {
      if (!has_tls) {
        AddMissing(file_.At("require_encryption"),
                   "require_encryption needs tls (`orrery certs` makes certificates)");
      }
      const internal::Exchange exchange = cluster_.exchange();
      if (exchange == internal::EXCHANGE_SHM || exchange == internal::EXCHANGE_NCCL ||
          exchange == internal::EXCHANGE_CUDA_IPC) {
        Add(file_.At("exchange"),
            absl::StrCat("exchange ", internal::Exchange_Name(exchange),
                         " is never encrypted, which require_encryption forbids: take "
                         "EXCHANGE_GRPC, or leave one of the two out"));
      }
    }
    if (has_tls || cluster_.allow_plain_text()) return;
    if (CheckPlainText("router", cluster_.router()) &&
        CheckPlainText("attention", cluster_.attention())) {
      CheckPlainText("expert", cluster_.expert());
    }
  }

  // Whether all are loopback addresses; says so of the first that is not, as the remedy is one for all.
  template <typename Members>
  bool CheckPlainText(const std::string& role, const Members& members) {
    for (int i = 0; i < members.size(); ++i) {
      const ClusterMember& member = members.Get(i);
      const absl::StatusOr<HostPort> address = ParseHostPort(member.address());
      if (!address.ok() || IsLoopback(*address)) continue;
      AddMissing(file_.Nested(member, role, i).At("address"),
                 absl::StrCat("without tls, ", role, " \"", member.name(),
                              "\" would speak plain "
                              "text at ",
                              member.address(),
                              ", which is no loopback address: give "
                              "the file tls (`orrery certs` makes certificates), or say "
                              "allow_plain_text: true"));
      return false;
    }
    return true;
  }

  template <typename Members>
  void CheckMembers(const std::string& role, const Members& members) {
    if (!members.empty() && NumNeeded(members) == 0) {
      AddMissing(file_.Nested(members.Get(0), role, 0).At("spare"),
                 absl::StrCat("every ", role,
                              " member is spare or retiring: at least one must be neither"));
    }
    for (int i = 0; i < members.size(); ++i) {
      const ClusterMember& member = members.Get(i);
      const Block block = file_.Nested(member, role, i);
      CheckName(role, member.name(), block.At("name"));
      CheckAddress(role, member, block.At("address"));
      CheckThreads(role, member, block);
      CheckGpu(role, member, block);
      if (member.memory_bytes() < 0) {
        Add(block.At("memory_bytes"),
            absl::StrCat(role, " \"", member.name(), "\": memory_bytes is ", member.memory_bytes(),
                         ", must be 0 (the default) or more"));
      }
      if (role == "router" && member.retiring()) {
        Add(block.At("retiring"),
            absl::StrCat("router \"", member.name(),
                         "\" cannot retire: it serves the ranks of both; leave it out instead"));
      }
    }
  }

  void CheckGpu(const std::string& role, const ClusterMember& member, const Block& block) {
    const int gpu = member.gpu();
    if (role == "router" && gpu != 0) {
      Add(block.At("gpu"), "a router computes nothing: gpu is for attention and expert members");
    } else if (gpu < 0) {
      Add(block.At("gpu"),
          absl::StrCat(role, " \"", member.name(), "\": gpu is ", gpu, ", must be 0 or more"));
    }
  }

  void CheckThreads(const std::string& role, const ClusterMember& member, const Block& block) {
    constexpr int kMaxThreads = 4096;
    const int num_threads = member.num_threads();
    const bool has_threads = num_threads != 0 || !member.cpus().empty();
    if (role == "router" && has_threads) {
      Add(block.At(num_threads != 0 ? "num_threads" : "cpus"),
          "a router computes nothing: num_threads and cpus are for attention and expert members");
      return;
    }
    if (num_threads < 0 || num_threads > kMaxThreads) {
      Add(block.At("num_threads"), absl::StrCat(role, " \"", member.name(), "\": num_threads is ",
                                                num_threads, ", must be 0 to ", kMaxThreads));
    }
    const absl::StatusOr<std::vector<int>> cpus = ParseCpuList(member.cpus());
    if (!cpus.ok()) {
      Add(block.At("cpus"), std::string(cpus.status().message()));
    } else if (!cpus->empty() && num_threads > static_cast<int>(cpus->size())) {
      Add(block.At("num_threads"),
          absl::StrCat(role, " \"", member.name(), "\": num_threads is ", num_threads,
                       ", more than its ", cpus->size(), " cpus"));
    }
  }

  void CheckName(const std::string& role, const std::string& name, const FileProblem& place) {
    if (name.empty()) return AddMissing(place, absl::StrCat(role, " without a name"));
    bool good = name.size() <= 63 && absl::ascii_isalnum(name[0]);
    for (const char c : name)
      good = good && (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.');
    if (!good) {
      Add(place, absl::StrCat("bad name \"", name,
                              "\": 1 to 63 letters, digits, '-', '_' and '.', a letter or digit "
                              "first"));
    }
    CheckUnique("name", name, place, names_);
  }

  void CheckAddress(const std::string& role, const ClusterMember& member,
                    const FileProblem& place) {
    const std::string& address = member.address();
    if (address.empty()) {
      return AddMissing(place, absl::StrCat(role, " \"", member.name(), "\" has no address"));
    }
    const std::string problem = AddressProblem(address);
    if (!problem.empty())
      return Add(place, absl::StrCat("bad address \"", address, "\": ", problem));
    CheckUnique("address", absl::AsciiStrToLower(address), place, addresses_);
  }

  // Empty if it is host:port.
  static std::string AddressProblem(const std::string& address) {
    const size_t colon = address.rfind(':');
    if (colon == std::string::npos) return "no port, must be host:port";
    const std::string host = address.substr(0, colon);
    const std::string port_text = address.substr(colon + 1);
    int port = 0;
    bool digits = !port_text.empty();
    for (const char c : port_text) digits = digits && absl::ascii_isdigit(c);
    if (!digits || !absl::SimpleAtoi(port_text, &port) || port < 1 || port > 65535) {
      return absl::StrCat("port \"", port_text, "\", must be 1 to 65535");
    }
    if (host.empty()) return "no host, must be host:port";
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (!bracketed && host.find(':') != std::string::npos) {
      return "an IPv6 host must stand in brackets, like [::1]:7400";
    }
    const std::string inner = bracketed ? host.substr(1, host.size() - 2) : host;
    for (const char c : inner) {
      const bool good = absl::ascii_isalnum(c) || c == '.' || c == '-' ||
                        (bracketed ? c == ':' || c == '%' : c == '_');
      if (!good) return absl::StrCat("host \"", host, "\" has a character that no host name has");
    }
    return "";
  }

  void CheckUnique(const char* what, const std::string& value, const FileProblem& place,
                   std::map<std::string, FileProblem>& seen) {
    const auto [first, inserted] = seen.emplace(value, place);
    if (inserted) return;
    Add(place, absl::StrCat("duplicate ", what, " \"", value, "\", first in line ",
                            first->second.line + 1));
  }

  const internal::ClusterFile& cluster_;
  const bool incomplete_;
  const Block file_;
  std::vector<FileProblem>& problems_;
  std::map<std::string, FileProblem> names_;
  std::map<std::string, FileProblem> addresses_;
};

}  // namespace

void CheckClusterMeaning(const ParsedClusterText& parsed, std::vector<FileProblem>& problems) {
  Checker(parsed, problems).CheckAll();
}

}  // namespace orrery
