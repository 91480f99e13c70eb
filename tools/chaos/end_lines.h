// What routers' logs say of how requests ended (GenerateCall::LogEnd in services/router/generate_call.cc).
//
//   EndLines lines;
//   lines.Add(launcher.Output("router-0"));      // and of every other router
//   int64_t num_wrong = lines.CountNotOnce(ids);
//
// Pure.
#ifndef ORRERY_TOOLS_CHAOS_END_LINES_H_
#define ORRERY_TOOLS_CHAOS_END_LINES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace orrery {

class EndLines {
 public:
  // The log of one router, of all its lives.
  void Add(std::string_view log);
  // How many of these requests are not told of exactly once as ended well.
  int64_t CountNotOnce(const std::vector<std::string>& request_ids) const;

 private:
  std::unordered_map<std::string, int> num_ok_;  // lines, by request
};

}  // namespace orrery

#endif  // ORRERY_TOOLS_CHAOS_END_LINES_H_
