// 3 x 3 convolutions of stride 1 by Winograd's algorithm, in float: for processors on which oneDNN has none (those with
// AVX2 alone), where BackendOptions::allows_winograd permits it. Layer by layer they take 0.35 to 0.65 of the time of
// oneDNN's direct ones (ResNet-50 at batch 16, VGG-19 at batch 8, two threads of a Zen 4 held to AVX2).
//
// A result's error is a millionth of what results are in general (root mean square), of a direct sum's two
// ten-millionths. A NaN or an infinity makes all 16 results of each tile that reads it NaN, also those whose windows do
// not hold it. Views are dense.
#pragma once

#include "kernels/backend.h"

namespace graft {

/// Whether the algorithm applies: 3 x 3, stride and dilation 1, multiples of 16 channels, eight neighbouring channels
/// in memory, a tensor that is not empty.
bool has_winograd(const ConvCall& call);
/// Whether a call to which it applies then takes less time. Weights are transformed at each call, since they change
/// with each step of training, and four times their memory would have to be kept: with fewer tiles that is not worth
/// it.
bool gains_by_winograd(const ConvCall& call);

/// What the call takes while it runs, in bytes, with as many threads as OpenMP gives now.
std::int64_t winograd_scratch(const ConvCall& call);

/// As Backend's calls of these names; every result has the same bits with any number of threads.
void winograd_conv(Backend&, const ConvSpec&, View y, ConstView x, ConstView w, const ConvEpilogue&);
void winograd_data_grad(Backend&, const ConvSpec&, View dx, Write, ConstView dy, ConstView w);
void winograd_weight_grad(Backend&, const ConvSpec&, View dw, Write, ConstView dy, ConstView x);

/// The last one's part of winograd_scratch.
std::int64_t winograd_weight_grad_scratch(const ConvSpec&);

}  // namespace graft
