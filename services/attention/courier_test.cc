#include "services/attention/courier.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "gtest/gtest.h"

namespace orrery {
namespace {

OutputEvent Token(int id) {
  OutputToken token;
  token.token.id = id;
  return token;
}

// A reader that takes when it is told to, as a stream does.
struct Reader {
  std::shared_ptr<Outbox> outbox = std::make_shared<Outbox>([this] { OnNews(); });
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int> ids;                // guarded by mutex
  std::optional<absl::Status> status;  // guarded by mutex
  int num_ends = 0;                    // guarded by mutex

  void OnNews() {
    std::lock_guard lock(mutex);
    for (const OutputEvent& event : outbox->Take()) {
      ids.push_back(std::get<OutputToken>(event).token.id);
    }
    if (status.has_value()) return;
    status = outbox->status();
    if (status.has_value()) ++num_ends;
    changed.notify_all();
  }
};

TEST(Courier, BringsManyReadersEveryTokenInOrderAndOneEnd) {
  constexpr int kNumReaders = 20;
  constexpr int kNumTurns = 500;
  std::vector<Reader> readers(kNumReaders);
  Courier courier;
  for (int turn = 0; turn < kNumTurns; ++turn) {
    std::vector<std::shared_ptr<Outbox>> with_news;
    for (Reader& reader : readers) {
      reader.outbox->Push({Token(2 * turn), Token(2 * turn + 1)});
      with_news.push_back(reader.outbox);
    }
    courier.Carry(std::move(with_news));
  }
  for (Reader& reader : readers) {
    reader.outbox->Finish(absl::OkStatus());
    courier.Carry({reader.outbox});
  }
  for (Reader& reader : readers) {
    std::unique_lock lock(reader.mutex);
    reader.changed.wait(lock, [&] { return reader.status.has_value(); });
    ASSERT_EQ(reader.ids.size(), 2u * kNumTurns);
    for (int i = 0; i < 2 * kNumTurns; ++i) ASSERT_EQ(reader.ids[i], i);
    EXPECT_EQ(reader.num_ends, 1);
  }
}

TEST(Courier, TellsWhatWasCarriedBeforeItStops) {
  Reader reader;
  Courier courier;
  reader.outbox->Push({Token(7)});
  courier.Carry({reader.outbox});
  courier.Stop();
  EXPECT_EQ(reader.ids, std::vector<int>{7});
  courier.Stop();
}

// The listener stands still during the first round; what comes meanwhile is one further round.
TEST(Courier, TellsOnceWhatManyTurnsBroughtWhileItWasBusy) {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_told = false;
  bool may_go_on = false;
  int num_told = 0;
  const auto outbox = std::make_shared<Outbox>([&] {
    std::unique_lock lock(mutex);
    ++num_told;
    is_told = true;
    changed.notify_all();
    changed.wait(lock, [&] { return may_go_on; });
  });
  Courier courier;
  courier.Carry({outbox});
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return is_told; });
  }
  for (int turn = 0; turn < 100; ++turn) courier.Carry({outbox});
  {
    std::lock_guard lock(mutex);
    may_go_on = true;
    changed.notify_all();
  }
  courier.Stop();
  EXPECT_EQ(num_told, 2);
}

}  // namespace
}  // namespace orrery
