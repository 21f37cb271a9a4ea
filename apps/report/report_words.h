// What a study shows, in words: one sentence of verdict, and what a reader must know before believing it. Sober: a best
// strategy that cannot be told apart from others is said to be so.
#pragma once

#include <string>
#include <vector>

#include "apps/report/report_numbers.h"

namespace graft {

/// "macro accuracy", "area under the ROC curve".
std::string words_of(Score score);
/// By what trials were compared on validation images.
std::string selection_words(const StudySpec& spec);
/// "Macro accuracy" as a heading.
std::string heading_of(Score score);

/// When an interval is doubtful: "a class has fewer than 10 independent cases", or, with several labels per image
/// anywhere, also when a class is hardly ever absent.
std::string doubt_text(const StudyReport& report);

/// Why an interval of the calibration error may lie beside the number.
inline constexpr const char* kCalibrationNote =
    "The calibration error comes out too high with few images; its interval is corrected for that, and may lie wholly "
    "below the number.";

/// "0.820"; "–" for NaN.
std::string number_text(double value);
/// "0.757–0.877"; "–" without one. Of signed values "-0.031 to 0.052".
std::string range_text(double low, double high);
/// "+0.012", "-0.031".
std::string signed_text(double value);
/// "0.021", "< 0.001", "1"; "–" for NaN.
std::string p_text(double p);
/// "3e-4"; "–" for NaN.
std::string rate_text(double lr);
/// "2.4 s", "20 s", "3 min 20 s", "1 h 12 min"; "–" for NaN.
std::string time_text(double seconds);
/// "1 seed", "3 seeds".
std::string counted(std::int64_t count, std::string_view one, std::string_view many);
/// "a, b and c".
std::string listed(const std::vector<std::string>& words);
/// "lp-ft on chest", with several networks "lp-ft of vgg19 on chest".
std::string place_text(const StudyReport& report, const ReportGroup& group);

/// Entries whose difference from the group's best is not distinguishable, those that are best left out.
std::vector<std::size_t> tied_with_best(const ReportGroup& group);

/// An error's text without the folders of the study and of its data sets: reports are published, machines are not.
std::string without_folders(const StudyReport& report, std::string text);

/// The study's own title, or "Study of 3 strategies on chest and skin".
std::string title_text(const StudyReport& report);
std::string verdict(const StudyReport& report);
std::vector<std::string> caveats(const StudyReport& report);
/// What times of training leave out, naming strategies that look cheaper for it; empty if nothing is left out.
std::string time_note(const StudyReport& report);
/// One line per failed training and per strategy with missing ones. Empty when all are finished.
std::vector<std::string> missing(const StudyReport& report);

}  // namespace graft
