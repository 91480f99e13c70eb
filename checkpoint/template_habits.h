// What a chat template of the DeepSeek family does, read off its Jinja text. Internal to
// chat_template.cc.
#ifndef ORRERY_CHECKPOINT_TEMPLATE_HABITS_H_
#define ORRERY_CHECKPOINT_TEMPLATE_HABITS_H_

#include <string>

#include "base/status.h"
#include "checkpoint/chat_template.h"

namespace orrery {

// INVALID_ARGUMENT with what was not understood. `bos` is left as it is: it is not in the template.
absl::StatusOr<ChatTemplate::Habits> ReadTemplateHabits(const std::string& jinja);

}  // namespace orrery

#endif  // ORRERY_CHECKPOINT_TEMPLATE_HABITS_H_
