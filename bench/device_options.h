// The flags of a bench program that say where and how it computes: --device, --precision, --threads, --fused-norms,
// --own-growth, --deterministic.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "kernels/backend.h"

namespace graft {

struct DeviceOptions {
  std::string device = "cpu";
  BackendOptions backend;
  std::unique_ptr<Backend> open() const { return make_backend(parse_device(device), backend); }
};

inline void add_to(CLI::App& app, DeviceOptions& options) {
  static const std::map<std::string, Precision> kPrecisions{
      {"f32", Precision::f32}, {"tf32", Precision::tf32}, {"bf16", Precision::bf16}, {"f16", Precision::f16}};
  app.add_option("--device", options.device, "cpu, cuda, cuda:N or reference");
  app.add_option_function<std::string>(
         "--precision", [&](const std::string& name) { options.backend.precision = kPrecisions.at(name); })
      ->check(CLI::IsMember(kPrecisions));
  app.add_option("--threads", options.backend.threads, "0: all cores");
  app.add_option_function<std::string>(
         "--fused-norms", [&](const std::string& word) { options.backend.plans.norm_fusion = parse_own_kernels(word); },
         "norms and pointwise convolutions as one kernel, on a GPU in 16 bits")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  app.add_option_function<std::string>(
         "--own-growth", [&](const std::string& word) { options.backend.plans.growth = parse_own_kernels(word); },
         "DenseNet's 3x3 convolutions by kernels of graft's own, on a GPU in 16 bits")
      ->check(CLI::IsMember({"auto", "on", "off"}));
  app.add_option("--deterministic", options.backend.plans.deterministic,
                 "on (as usual) or off: sums on a GPU may be taken in any order");
}

}  // namespace graft
