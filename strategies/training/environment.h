// environment.json of a run: what it was computed with, and what its device chose meanwhile, as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// Versions, device, machine, command line, start time.
struct EnvironmentInput {
  std::string_view device_description, command_line, model, model_sha256;
  std::int64_t seed = 0;
  int processes = 1;  // that train together
};
std::string environment_json(const EnvironmentInput& input);

/// What a device chose for each convolution of a run (Backend::plans).
struct UsedPlans {
  std::string device;  // its description
  std::vector<std::string> lines;
};
/// The environment with "plans" and "plans_device". Plans of before stay where the same kind of device, another of the
/// same machine included, has none for that convolution now. Text that is not such JSON comes back as it is.
std::string with_plans(const std::string& environment_json, const UsedPlans& plans);
/// What with_plans() left there; no lines if there are none.
UsedPlans plans_of(const std::string& environment_json);
/// Whether plans of the one mean the same on the other: the descriptions differ in the device's number alone.
bool are_alike(std::string_view device, std::string_view other);

}  // namespace graft
