// 3 x 3 convolutions of stride 1 by Winograd's algorithm, in float: for processors on which oneDNN has none (those with
// AVX2 alone), where BackendOptions::allows_winograd permits it. About 2.4 times as fast as oneDNN's direct ones.
#pragma once

#include "kernels/backend.h"

namespace graft {

/// Whether a call can be computed so.
bool has_winograd(const ConvCall& call);
/// Whether it then takes less time: transforms of weights must be worth it.
bool gains_by_winograd(const ConvCall& call);

/// What the call takes while it runs, in bytes, with as many threads as OpenMP gives.
std::int64_t winograd_scratch(const ConvCall& call);

/// As Backend's calls of these names; every result has the same bits with any number of threads.
void winograd_conv(Backend&, const ConvSpec&, View y, ConstView x, ConstView w, const ConvEpilogue&);
void winograd_data_grad(Backend&, const ConvSpec&, View dx, Write, ConstView dy, ConstView w);
void winograd_weight_grad(Backend&, const ConvSpec&, View dw, Write, ConstView dy, ConstView x);

/// The last one's part of winograd_scratch.
std::int64_t winograd_weight_grad_scratch(const ConvSpec&);

}  // namespace graft
