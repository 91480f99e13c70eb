#include "tools/check/check_golden.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "tools/check/check_numbers.h"
#include "tools/check/check_text.h"
#include "tools/check/golden_file.h"

namespace orrery {

absl::Status CheckGolden(const std::string& dir, const CheckModelOptions& options, Report& report) {
  ASSIGN_OR_RETURN(const GoldenFile golden, GoldenFile::Open(dir));
  const nlohmann::json& json = golden.json();
  if (json.contains("logits")) return CheckModel(golden, options, report);
  if (json.contains("models")) return CheckRopeTables(golden, report);
  if (json.contains("decode_table")) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDeviceOf(options.cluster));
    const std::unique_ptr<Stream> stream = device->MakeStream();
    ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels,
                     MakeKernelsOf(options.cluster, stream.get()));
    return CheckFp8(golden, {device.get(), stream.get(), kernels.get()}, report);
  }
  const auto cases = json.find("cases");
  if (cases != json.end() && cases->is_array() && !cases->empty()) {
    if ((*cases)[0].contains("ids")) return CheckTokenizer(golden, report);
    if ((*cases)[0].contains("template")) return CheckChatTemplates(golden, report);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      dir,
      "/golden.json holds nothing that can be checked: no logits, cases, models or decode_table"));
}

}  // namespace orrery
