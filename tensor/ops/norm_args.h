// What batch norm's operations share: which statistics a norm uses, and how the running ones move.
#pragma once

#include "tensor/ops.h"

namespace graft {

NormalizeArgs device_args(const BatchNormArgs& a, const Tensor& stats);
bool uses_batch_statistics(const Tensor& x, const BatchNormArgs& a);
/// Errors: x has other channels than the norm, or one value per channel where its statistics are the batch's.
void check_norm(const Tensor& x, const BatchNormArgs& a);
bool moves_running(const Tensor& x, const BatchNormArgs& a);
/// Towards x's statistics, if they are to.
void move_running(const Tensor& x, const Tensor& stats, const BatchNormArgs& a);

/// Brings a convolution with the norm behind it folded in up to date.
void fold_norm(Context& context, const ConvNormArgs& a, FoldedNorm& kept);

}  // namespace graft
