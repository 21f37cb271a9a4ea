// The MPI module: ranks as processes of MPI_COMM_WORLD. Errors of MPI's own end all processes, which is its default.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "kernels/build_info.h"
#include "kernels/mpi/module.h"

namespace graft {
namespace {

/// Counts are ints in MPI.
constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;

bool is_running() {
  int has_begun = 0, has_ended = 0;
  MPI_Initialized(&has_begun);
  MPI_Finalized(&has_ended);
  return has_begun && !has_ended;
}

void end_others(int status, void*) {
  if (!is_running()) return;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // launchers lose what they have not read by then
  MPI_Abort(MPI_COMM_WORLD, status);
}

template <typename T>
void sum_in_place(std::span<T> values, MPI_Datatype type) {
  while (!values.empty()) {
    const std::span<T> part = values.first(std::min(values.size(), kMostAtOnce));
    MPI_Allreduce(MPI_IN_PLACE, part.data(), int(part.size()), type, MPI_SUM, MPI_COMM_WORLD);
    values = values.subspan(part.size());
  }
}

class MpiRanks final : public Ranks {
 public:
  MpiRanks() {
    int given = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &count_);
    on_exit(end_others, nullptr);
  }
  int rank() const override { return rank_; }
  int count() const override { return count_; }
  void sum(std::span<float> values) override { sum_in_place(values, MPI_FLOAT); }
  void sum(std::span<double> values) override { sum_in_place(values, MPI_DOUBLE); }
  std::vector<std::byte> gather(std::span<const std::byte> own) override;
  void finish() override {
    if (is_running()) MPI_Finalize();
  }

 private:
  int rank_ = 0, count_ = 1;
};

std::vector<std::byte> MpiRanks::gather(std::span<const std::byte> own) {
  std::vector<unsigned long long> sizes(std::size_t(count_), own.size());
  MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, sizes.data(), 1, MPI_UNSIGNED_LONG_LONG, MPI_COMM_WORLD);
  std::vector<std::byte> all(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  std::size_t begin = 0;
  for (int root = 0; root < count_; ++root) {
    const std::size_t size = sizes[std::size_t(root)];
    if (root == rank_) std::ranges::copy(own, all.begin() + std::ptrdiff_t(begin));
    for (std::size_t sent = 0; sent < size; sent += kMostAtOnce)
      MPI_Bcast(all.data() + begin + sent, int(std::min(kMostAtOnce, size - sent)), MPI_BYTE, root, MPI_COMM_WORLD);
    begin += size;
  }
  return all;
}

std::unique_ptr<Ranks> join() { return std::make_unique<MpiRanks>(); }

std::string library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string line(text, std::size_t(length));
  line = line.substr(0, line.find_first_of("\n,"));
  std::ranges::replace(line, '\t', ' ');
  return line;
}

}  // namespace
}  // namespace graft

extern "C" const graft::MpiModule* graft_mpi_module() {
  static const graft::MpiModule kModule{graft::build_info().version.data(), graft::join, graft::library};
  return &kModule;
}
