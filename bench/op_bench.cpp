// The op table at the sizes of real networks, timed on every usable device: GFLOP/s for matrix work, GB/s of operands
// read and written for the rest. Whether results are right, the tests say, from the same table. A case runs again and
// again on the same memory: what fits into a cache stays there.
//   graft_bench --benchmark_filter='cpu/conv'
#include <benchmark/benchmark.h>

#include <cstdio>

#include "tests/support/op_cases.h"

namespace graft {
namespace {

void time_case(benchmark::State& state, DeviceKind kind, const OpCase& op) {
  const std::unique_ptr<Backend> opened = make_backend({kind, 0});  // none outlives main
  Backend& device = *opened;
  CaseOperands operands(device, op, Write::overwrite, formats_of(op, device));
  op.run(device, operands, Write::overwrite);  // plans and packed weights are made here
  device.synchronize();
  for (auto _ : state) {
    op.run(device, operands, Write::overwrite);
    device.synchronize();
  }
  const auto rate = [&](double per_run) {
    return benchmark::Counter(per_run * double(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
  };
  if (op.flops > 0) state.counters["GFLOP"] = rate(op.flops);
  state.counters["GB"] = rate(op.bytes(device));
}

bool register_cases() {
  std::vector<DeviceKind> kinds{DeviceKind::cpu};
  if (const std::string reason = cuda_unavailable_reason(); reason.empty())
    kinds.push_back(DeviceKind::cuda);
  else
    std::fprintf(stderr, "op_bench: cpu only: %s\n", reason.c_str());
  for (const DeviceKind kind : kinds)
    for (const OpCase& op : speed_cases()) {
      if (!op.runs_on(kind)) continue;
      benchmark::RegisterBenchmark(((kind == DeviceKind::cpu ? "cpu/" : "cuda/") + op.name).c_str(),
                                   [kind, &op](benchmark::State& state) { time_case(state, kind, op); })
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  return true;
}

const bool registered = register_cases();

}  // namespace
}  // namespace graft
