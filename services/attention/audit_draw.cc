#include "services/attention/audit_draw.h"

#include "base/rng.h"

namespace orrery {

int64_t AuditDraw::Gap() {
  const DrawKey key = {.choice = static_cast<uint32_t>(num_drawn_ >> 32),
                       .position = static_cast<uint32_t>(num_drawn_)};
  const auto num_gaps = 2 * static_cast<double>(one_in_) - 1;
  return 1 + static_cast<int64_t>(UniformDraw(key) * num_gaps);
}

void AuditDraw::Next(int64_t num_visits, std::vector<int>& chosen) {
  chosen.clear();
  while (num_to_pass_ < num_visits) {
    chosen.push_back(static_cast<int>(num_to_pass_));
    ++num_drawn_;
    num_to_pass_ += Gap();
  }
  num_to_pass_ -= num_visits;
}

}  // namespace orrery
