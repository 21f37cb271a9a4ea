#include "kernels/ranks.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "kernels/build_info.h"
#include "kernels/modules.h"
#include "kernels/mpi/module.h"
#include "kernels/usable_cores.h"

namespace graft {
namespace {

struct RankVariables {
  const char *rank, *count;
};
// Open MPI; MPICH, Intel MPI and srun --mpi=pmi2; srun --mpi=pmix. SLURM's own variables are those of whole jobs, too.
constexpr RankVariables kVariables[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}, {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}};

bool has_joined = false;

std::optional<int> number_in(const char* variable) {
  const char* const text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return {};
  return int(std::strtol(text, nullptr, 10));
}

/// What a rank tells the others of where it runs.
struct Place {
  char host[256] = {};
  cpu_set_t cores = {};
};

}  // namespace

bool Ranks::any(bool own) {
  double on = own;
  sum(std::span(&on, 1));
  return on > 0;
}

Ranks& lone_rank() {
  static Ranks alone;  // without state
  return alone;
}

std::optional<int> first_to_differ(Ranks& ranks, std::span<const std::byte> own) {
  const std::vector<std::size_t> sizes = gather_values<std::size_t>(ranks, std::array{own.size()});
  const std::vector<std::byte> all = ranks.gather(own);
  std::size_t begin = 0;
  for (std::size_t rank = 0; rank < sizes.size(); begin += sizes[rank++])
    if (!std::equal(all.begin() + std::ptrdiff_t(begin), all.begin() + std::ptrdiff_t(begin + sizes[rank]), all.begin(),
                    all.begin() + std::ptrdiff_t(sizes[0])))
      return int(rank);
  return {};
}

StartedRank started_rank() {
  for (const auto& [rank, count] : kVariables) {
    const std::optional<int> r = number_in(rank), n = number_in(count);
    if (r && n) return *n > 1 ? StartedRank{*r, *n} : StartedRank{};  // the innermost launcher's
  }
  return {};
}

std::vector<char*> lone_environment() {
  std::vector<char*> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    if (std::ranges::none_of(kVariables, [&](const RankVariables& v) { return name == v.rank; }))
      kept.push_back(*entry);
  }
  kept.push_back(nullptr);
  return kept;
}

std::unique_ptr<Ranks> join_ranks() {
  const StartedRank started = started_rank();
  if (started.count == 1) return std::make_unique<Ranks>();
  const auto refuse = [&](const std::string& reason) {
    return Error(fmt::format("{} processes were started to train together, but {}", started.count, reason));
  };
  if (build_info().mpi_module_file.empty())
    throw refuse("this build has no MPI; install libmpich-dev or libopenmpi-dev and build again, or start one process");
  const OpenedModule<MpiModule> opened = open_module<MpiModule>({.name = "MPI",
                                                                 .variable = "GRAFT_MPI_MODULE",
                                                                 .file = build_info().mpi_module_file,
                                                                 .function = kMpiModuleFunction,
                                                                 .libraries = "MPI's libraries"});
  if (opened.table == nullptr) throw refuse(opened.reason);
  std::unique_ptr<Ranks> ranks = opened.table->join();
  has_joined = true;
  if (ranks->count() != started.count)
    throw refuse(fmt::format("{}, which graft was built with, finds {}; start them with its own mpirun",
                             opened.table->library(), ranks->count()));
  return ranks;
}

bool has_joined_ranks() { return has_joined; }

int cores_of_rank(Ranks& ranks) {
  Place own;
  gethostname(own.host, sizeof own.host - 1);
  if (sched_getaffinity(0, sizeof own.cores, &own.cores) != 0) CPU_ZERO(&own.cores);  // of a very large machine
  cpu_set_t all = {};
  int here = 0;
  for (const Place& place : gather_values<Place>(ranks, std::span(&own, 1))) {
    if (std::strcmp(place.host, own.host) != 0) continue;
    CPU_OR(&all, &all, &place.cores);
    ++here;
  }
  if (CPU_COUNT(&all) == 0) return std::max(1, usable_cores() / here);
  return std::clamp(CPU_COUNT(&all) / here, 1, usable_cores());
}

}  // namespace graft
