// graft devices: what this machine can compute on, and why not on the rest.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/terminal.h"
#include "apps/verbs.h"
#include "kernels/backend.h"

namespace graft {
namespace {

struct DevicesOptions {
  bool is_json = false, is_quiet = false;
};

struct DeviceRow {
  std::string name, description, reason;  // reason: why it cannot be used; empty when it can
};

DeviceRow try_device(const Device& device) {
  try {
    return {to_string(device), make_backend(device)->description(), ""};
  } catch (const Error& error) {
    return {to_string(device), "", error.what()};
  }
}

/// GPUs are tried in order until one cannot be opened.
std::vector<DeviceRow> list_devices() {
  std::vector<DeviceRow> rows{try_device({DeviceKind::cpu}), try_device({DeviceKind::reference})};
  if (const std::string reason = cuda_unavailable_reason(); !reason.empty()) {
    rows.push_back({"cuda", "", reason});
    return rows;
  }
  constexpr int kMostGpus = 64;
  for (int index = 0; index < kMostGpus; ++index) {
    DeviceRow row = try_device({DeviceKind::cuda, index});
    if (index > 0 && !row.reason.empty()) break;
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string automatic_choice(std::string& why) {
  try {
    return to_string(parse_device("auto", &why));
  } catch (const Error& error) {
    why = error.what();
    return "";
  }
}

int run_devices(bool is_json) {
  const std::vector<DeviceRow> rows = list_devices();
  std::string why;
  const std::string chosen = automatic_choice(why);
  if (is_json) {
    nlohmann::ordered_json all{{"auto", chosen}, {"auto_reason", why}, {"devices", nlohmann::ordered_json::array()}};
    for (const DeviceRow& row : rows) {
      all["devices"].push_back({{"name", row.name},
                                {"usable", row.reason.empty()},
                                {"description", row.description},
                                {"reason", row.reason}});
    }
    print_result(all.dump() + "\n");
    return 0;
  }
  TextTable table({"device", "usable", "description"});
  table.align_left(1), table.align_left(2);
  for (const DeviceRow& row : rows) {
    table.add({row.name, row.reason.empty() ? "yes" : "no", row.reason.empty() ? row.description : row.reason});
  }
  print_result(table.text() + fmt::format("\n--device auto takes {}{}\n", chosen, why.empty() ? "" : ": " + why));
  return 0;
}

}  // namespace

void add_devices_verb(Command& program) {
  Command verb = program.verb("devices", "List devices, and why some cannot be used");
  auto options = std::make_shared<DevicesOptions>();
  verb.output_options(options->is_json, options->is_quiet);
  verb.run([options] { return run_devices(options->is_json); });
}

}  // namespace graft
