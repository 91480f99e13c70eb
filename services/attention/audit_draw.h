// Which visits of rows to experts are asked for twice on purpose: one in `one_in` on average, drawn so that every
// expert has its turn. Every one_in-th would not do: a row's visits lie in the order of their experts, and where
// their number and one_in share a factor, the count meets the same places of that order for ever.
//
//   AuditDraw draw(100);
//   draw.Next(entries.size(), chosen);   // of the next so many visits: indices, ascending
//
// The gap from one to the next is uniform in [1, 2 one_in - 1], the same row of gaps in every process.
#ifndef ORRERY_SERVICES_ATTENTION_AUDIT_DRAW_H_
#define ORRERY_SERVICES_ATTENTION_AUDIT_DRAW_H_

#include <cstdint>
#include <vector>

namespace orrery {

class AuditDraw {
 public:
  // one_in: at least 1, which is every visit.
  explicit AuditDraw(int one_in) : one_in_(one_in) { num_to_pass_ = Gap() - 1; }

  // chosen is overwritten.
  void Next(int64_t num_visits, std::vector<int>& chosen);
  // Since the start.
  int64_t num_drawn() const { return num_drawn_; }

 private:
  int64_t Gap();

  int one_in_;
  int64_t num_drawn_ = 0;
  int64_t num_to_pass_ = 0;  // before the next one
};

}  // namespace orrery

#endif  // ORRERY_SERVICES_ATTENTION_AUDIT_DRAW_H_
