// How many batches of an epoch are trained on, and at which rates.
#pragma once

#include "optim/schedule.h"
#include "strategies/strategy.h"

namespace graft {

/// Batches of an epoch that are trained on: all, but for a last one of a single image where batch statistics are used.
std::int64_t usable_batches(std::int64_t images, std::int64_t batch, const FreezePlan& freeze);
/// The course of the rate that a plan is part of; its first epoch is EpochPlan::schedule_begin.
Schedule schedule_of(const TrainSettings& settings, const EpochPlan& plan, std::int64_t updates_per_epoch);

}  // namespace graft
