// A study's report as text: for a terminal, for programs (CSV, JSON), for documents (Markdown, LaTeX). The numbers are
// those of the page; the functions differ in nothing but their form.
#pragma once

#include <string>

#include "apps/report/report_numbers.h"

namespace graft {

/// Verdict, one table per network (strategies by data sets), what is missing; for a terminal.
std::string report_text(const StudyReport& report);

/// A line per network, data set, strategy and score; scores without a value are empty.
///   network,dataset,strategy,seeds,planned,score,estimate,low,high,method,is_doubtful,seed_sd,is_best,
///   p_holm_to_best,is_distinguishable_from_best,train_seconds
/// seed_sd (between seeds, of one) and the comparison are of the study's own score and stand in its lines alone.
/// is_best is 1 for all that have exactly the best score; they have no comparison.
std::string scores_csv(const StudyReport& report);
/// A line per pair of strategies: network,dataset,a,b,score,difference,low,high,p,p_holm,is_distinguishable
std::string comparisons_csv(const StudyReport& report);

/// One JSON object with everything that the page says in numbers; what is undefined is null.
std::string report_json(const StudyReport& report);

/// Verdict, one table per network, caveats.
std::string report_markdown(const StudyReport& report);

/// One booktabs table per network (needs \usepackage{booktabs}); the best of a data set in bold, what cannot be told
/// apart from it with a dagger.
std::string report_latex(const StudyReport& report);

/// Standard deviation between seeds of one score; NaN with fewer than two.
double seed_deviation(const ReportEntry& entry);

}  // namespace graft
