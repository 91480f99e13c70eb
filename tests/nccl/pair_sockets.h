// The sockets between the two members of a communicator of the stand-in: one for each direction.
//
//   PairSockets sockets;
//   while (!sockets.Join(name, member) && !aborted) wait;      // one attempt
//   sockets.Write(direction, data, n, aborted);                // direction: the member that sends
//
// Read and Write go on until all bytes have moved (true), the peer is gone, or `stop` says so (false).
#ifndef ORRERY_TESTS_NCCL_PAIR_SOCKETS_H_
#define ORRERY_TESTS_NCCL_PAIR_SOCKETS_H_

#include <cstddef>
#include <functional>
#include <string>

namespace nccl_on_host {

class PairSockets {
 public:
  PairSockets() = default;
  ~PairSockets();
  PairSockets(const PairSockets&) = delete;
  PairSockets& operator=(const PairSockets&) = delete;

  // Member 0 listens under the name, in the abstract namespace, and member 1 comes twice.
  bool Join(const std::string& name, int member);
  bool Write(int direction, const void* data, size_t num_bytes, const std::function<bool()>& stop);
  bool Read(int direction, void* data, size_t num_bytes, const std::function<bool()>& stop);

 private:
  int listener_ = -1;
  int sockets_[2] = {-1, -1};  // [the member that sends]
};

}  // namespace nccl_on_host

#endif  // ORRERY_TESTS_NCCL_PAIR_SOCKETS_H_
