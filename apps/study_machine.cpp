#include "apps/study_machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "kernels/backend.h"
#include "kernels/usable_cores.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

/// Names of the GPUs, asked of a process that opens them and is gone again.
std::vector<std::string> gpus() {
  if (!cuda_unavailable_reason().empty()) return {};
  std::FILE* answer = popen(fmt::format("/proc/{}/exe devices --json 2>/dev/null", getpid()).c_str(), "r");
  if (!answer) return {};
  std::string text;
  char part[4096];
  for (std::size_t n; (n = std::fread(part, 1, sizeof part, answer)) > 0;) text.append(part, n);
  pclose(answer);
  std::vector<std::string> names;
  const ordered_json all = ordered_json::parse(text, nullptr, false);
  if (all.is_discarded()) return {};
  for (const ordered_json& device : all.value("devices", ordered_json::array()))
    if (device.value("usable", false) && device.value("name", "").starts_with("cuda")) names.push_back(device["name"]);
  return names;
}

}  // namespace

std::string this_program() { return "/proc/self/exe"; }

MachineShare divide_machine(const StudySpec& spec, std::int64_t jobs) {
  TrainSettings s;
  for (const auto& [key, value] : spec.train) set_by_key(s, key, value);
  MachineShare share;
  if (s.device == "auto" || s.device == "cuda") share.devices = gpus();
  share.jobs = jobs > 0 ? jobs : std::max<std::int64_t>(1, std::ssize(share.devices));
  share.threads = std::max<std::int64_t>(1, usable_cores() / share.jobs);
  return share;
}

}  // namespace graft
