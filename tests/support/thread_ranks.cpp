#include "tests/support/thread_ranks.h"

#include <thread>

namespace graft::testing {
namespace {

/// What the ranks have in common: a call's arguments, which all put here before any looks.
struct Meeting {
  explicit Meeting(int count)
      : barrier(count), floats(std::size_t(count)), doubles(floats.size()), bytes(floats.size()) {}
  std::barrier<> barrier;
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<double>> doubles;
  std::vector<std::vector<std::byte>> bytes;
};

class ThreadRank final : public Ranks {
 public:
  ThreadRank(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int count() const override { return int(meeting_.bytes.size()); }
  void sum(std::span<float> values) override { sum(values, meeting_.floats); }
  void sum(std::span<double> values) override { sum(values, meeting_.doubles); }
  std::vector<std::byte> gather(std::span<const std::byte> own) override {
    meeting_.bytes[std::size_t(rank_)].assign(own.begin(), own.end());
    meeting_.barrier.arrive_and_wait();
    std::vector<std::byte> all;
    for (const std::vector<std::byte>& part : meeting_.bytes) all.insert(all.end(), part.begin(), part.end());
    meeting_.barrier.arrive_and_wait();
    return all;
  }

 private:
  template <typename T>
  void sum(std::span<T> values, std::vector<std::vector<T>>& all) {
    all[std::size_t(rank_)].assign(values.begin(), values.end());
    meeting_.barrier.arrive_and_wait();
    for (const std::vector<T>& part : all)  // or calls have come together that are not the same
      if (!part.empty() && part.size() != values.size()) std::abort();
    std::fill(values.begin(), values.end(), T(0));
    for (const std::vector<T>& part : all)
      for (std::size_t i = 0; i < part.size(); ++i) values[i] += part[i];
    meeting_.barrier.arrive_and_wait();
  }

  Meeting& meeting_;
  int rank_;
};

}  // namespace

void with_ranks(int count, const std::function<void(Ranks&)>& work) {
  Meeting meeting(count);
  std::vector<std::jthread> threads;
  for (int r = 0; r < count; ++r)
    threads.emplace_back([&, r] {
      ThreadRank rank(meeting, r);
      work(rank);
      meeting.floats[std::size_t(r)].clear();
      meeting.doubles[std::size_t(r)].clear();
      meeting.bytes[std::size_t(r)].clear();
      meeting.barrier.arrive_and_drop();
    });
}

}  // namespace graft::testing
