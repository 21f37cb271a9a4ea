#include "strategies/training/environment.h"

#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "kernels/build_info.h"

namespace graft {

std::string environment_json(const EnvironmentInput& input) {
  const BuildInfo& build = build_info();
  utsname machine{};
  uname(&machine);
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char time[32];
  std::tm utc{};
  std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  nlohmann::ordered_json j;
  j["graft"] = build.version;
  j["command_line"] = input.command_line;
  j["started"] = time;
  j["seed"] = input.seed;
  j["processes"] = input.processes;
  j["device"] = input.device_description;
  j["model"] = input.model;
  j["model_sha256"] = input.model_sha256;
  j["host"] = machine.nodename;
  j["system"] = std::string(machine.sysname) + " " + machine.release + " " + machine.machine;
  j["cores"] = std::thread::hardware_concurrency();
  j["compiler"] = build.compiler;
  j["compile_flags"] = build.compile_flags;
  j["march"] = build.march;
  j["onednn"] = build.onednn_version;
  j["hdf5"] = build.hdf5_version;
  j["cuda"] = build.cuda_version;
  j["cudnn"] = build.cudnn_version;
  return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";  // paths may be anything
}

std::string with_plans(const std::string& environment_json, const UsedPlans& plans) {
  auto j = nlohmann::ordered_json::parse(environment_json, nullptr, false);
  if (!j.is_object()) return environment_json;
  std::vector<std::string> lines = plans.lines;
  const auto graph_of = [](const std::string& line) { return line.substr(0, line.find(": ")); };
  const UsedPlans before = plans_of(environment_json);
  if (are_alike(before.device, plans.device))
    for (const std::string& line : before.lines)
      if (std::ranges::find(plans.lines, graph_of(line), graph_of) == plans.lines.end()) lines.push_back(line);
  j["plans_device"] = plans.device;
  j["plans"] = lines;
  return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

UsedPlans plans_of(const std::string& environment_json) {
  const auto j = nlohmann::json::parse(environment_json, nullptr, false);
  if (!j.is_object() || !j.contains("plans") || !j.contains("plans_device")) return {};
  try {
    return {j["plans_device"].get<std::string>(), j["plans"].get<std::vector<std::string>>()};
  } catch (const nlohmann::json::exception&) {  // written by hand
    return {};
  }
}

bool are_alike(std::string_view device, std::string_view other) {
  const auto kind = [](std::string_view text) { return text.substr(std::min(text.find(", "), text.size())); };
  return kind(device) == kind(other);
}

}  // namespace graft
