// Golden folders without a model: token ids, rendered chats, fp8 numbers, rope frequencies. All
// exact.
#ifndef ORRERY_TOOLS_CHECK_CHECK_TEXT_H_
#define ORRERY_TOOLS_CHECK_CHECK_TEXT_H_

#include "base/status.h"
#include "tools/check/golden_file.h"
#include "tools/check/report.h"

namespace orrery {

// Cases {text, ids, decode_skip_special} for the tokenizer.json of the folder: encode, decode, and
// decode token by token. Without that file the folder is reported as skipped.
absl::Status CheckTokenizer(const GoldenFile& golden, Report& report);

// Cases {template, messages, add_generation_prompt, expected} for published templates.
absl::Status CheckChatTemplates(const GoldenFile& golden, Report& report);

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHECK_CHECK_TEXT_H_
