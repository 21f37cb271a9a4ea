// Bounds of a score from resampled clusters of cases; which score takes which is chosen in intervals.cpp.
#pragma once

#include "data/scored_runs.h"

namespace graft {

struct Bounds {
  double low = 0.0, high = 0.0;
};

/// Bias-corrected and accelerated percentiles of resampled clusters, with the tails widened from a normal's to those of
/// Student's t with the variance's degrees of freedom.
/// Sources: Efron 1987; acceleration by the jackknife over clusters; Hesterberg 2015 (widening).
Bounds bca_bounds(const ScoredRuns& runs, const BootstrapSpec& spec);

/// Of a mean over cases with a long tail: resampled t values, with the variance of clusters' totals.
/// Source: Efron 1979; Davison and Hinkley 1997, 5.2.
Bounds bootstrap_t_bounds(const ScoredRuns& runs, const BootstrapSpec& spec);

/// Of the calibration error, whose plug-in estimate is the larger the noisier: which true errors make the estimate
/// neither too small nor too large? A bin's signed share h_b of the error is measured with noise, and the estimate is
/// sum |h_b|. For true shares s * h_b the estimate would be distributed as sum |s * h_b + noise_b|, the noise as in
/// resampled cases; the bounds are the s where the estimate observed is at that distribution's tails, times sum |h_b|.
/// Source: inversion of a bootstrap test along a family with one parameter, DiCiccio and Romano 1988.
Bounds calibration_error_bounds(const ScoredRuns& runs, const BootstrapSpec& spec);

}  // namespace graft
