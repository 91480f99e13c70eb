#include "tests/edge/loss_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

extern char** environ;

namespace orrery {

ShardAddress::ShardAddress(CarrierKind kind) {
  if (kind == CarrierKind::kCudaIpc) {
    text_ = absl::StrCat("test-edge-", std::random_device()());
    return;
  }
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
  text_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
}

ShardAddress::~ShardAddress() {
  if (socket_ >= 0) close(socket_);
}

ShardProcess::ShardProcess(CarrierKind kind, const std::string& address,
                           const std::string& faults) {
  int to[2], from[2];
  EXPECT_EQ(pipe2(to, O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(from, O_CLOEXEC), 0);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, to[0], 0);
  posix_spawn_file_actions_adddup2(&files, from[1], 1);
  posix_spawn_file_actions_adddup2(&files, from[1], 2);
  std::string words[] = {"tests/edge/shard_process", std::string(CarrierName(kind)), address,
                         faults};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  EXPECT_EQ(posix_spawn(&pid_, arguments[0], &files, nullptr, arguments.data(), environ), 0);
  posix_spawn_file_actions_destroy(&files);
  close(to[0]);
  close(from[1]);
  in_ = to[1];
  out_ = from[0];
  EXPECT_NE(AwaitLine("listening on "), "");
}

ShardProcess::~ShardProcess() {
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(in_);
  close(out_);
}

void ShardProcess::Signal(int signal) {
  kill(pid_, signal);
  // Its threads may run on for a moment, long enough to answer.
  if (signal == SIGSTOP) waitpid(pid_, nullptr, WUNTRACED);
}

void ShardProcess::Misbehave(const std::string& faults) {
  const std::string line = faults + "\n";
  EXPECT_EQ(write(in_, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  EXPECT_NE(AwaitLine("took the faults"), "");
}

std::string ShardProcess::AwaitLine(std::string_view words) {
  const absl::Time deadline = Far();
  while (absl::Now() < deadline) {
    const size_t end = read_.find('\n');
    if (end != std::string::npos) {
      const std::string line = read_.substr(0, end);
      read_.erase(0, end + 1);
      if (line.find(words) != std::string::npos) return line;
      continue;
    }
    pollfd ready = {.fd = out_, .events = POLLIN, .revents = 0};
    char bytes[4096];
    if (poll(&ready, 1, 1000) <= 0) continue;
    const ssize_t n = read(out_, bytes, sizeof(bytes));
    if (n <= 0) break;
    read_.append(bytes, static_cast<size_t>(n));
  }
  return "";
}

void LossTest::StartShard(const std::string& faults) {
  shard_ = nullptr;  // the address is free again
  shard_ = std::make_unique<ShardProcess>(kind_, address_.text(), faults);
}

void LossTest::Start(const std::string& faults, const EdgeOptions& options) {
  layer_ = MakeLayer(kind_, options).value();
  StartShard(faults);
  rank_ = MakeEdgeRank(kind_, layer_.get(), SmallRows(), "rank", {address_.text()});
  ASSERT_TRUE(rank_->AwaitConnected(0, Far()));
}

Ticket LossTest::Dispatch(const Work& work) {
  return rank_->Dispatch(1, Lane::kDecode, work.plan, work.rows).value();
}

void LossTest::ExpectLost(Ticket ticket, Work& work) {
  ExpectAll(rank_->Combine(ticket, Far(), absl::MakeSpan(work.results)), 4, EntryState::kLost);
}

void LossTest::ExpectServedBy(std::string_view carrier) {
  ASSERT_TRUE(rank_->AwaitConnected(0, Far()));
  ASSERT_TRUE(AwaitCarrier(*rank_, 0, carrier))
      << carrier << ", but: " << rank_->carrier(0) << ", " << rank_->carrier_problem(0);
  Work work = FourRows();
  EXPECT_TRUE(rank_->Combine(Dispatch(work), Far(), absl::MakeSpan(work.results)).empty());
  work.ExpectResults(1);
}

}  // namespace orrery
