// A profile as text: the table on a terminal, JSON for programs, CSV for spreadsheets. The numbers are
// strategies/analysis/profile.h's; the page and the trace are profile_page.h and profile_trace.h.
#pragma once

#include <string>

#include "strategies/analysis/profile.h"

namespace graft {

struct ProfileTableSpec {
  bool is_by_time = true;  // else in the order of the network
  std::int64_t top = 20;   // layers shown, those that take longest; 0: all
};

/// At most 100 columns. Shares are of the median step and add up to 100 % with the rows for data and for what passes
/// outside device calls.
std::string profile_table(const Profile& profile, const ProfileTableSpec& spec);

/// One object on one line.
std::string profile_json(const Profile& profile);

/// layer,pass,seconds,share,flops,bytes,calls,gflop_per_second,gb_per_second,bound,of_bound,kernels: a row per layer
/// and pass, then "(data)" and "(outside calls)"; shares add up to 1.
std::string profile_csv(const Profile& profile);

/// part,layer,op,shapes,calls,seconds,flops,bytes,kernels: a row per kind of device call.
std::string profile_calls_csv(const Profile& profile);

/// At most five characters: "0.012", "1.23", "12.3", "1234"; "-" for nothing.
std::string short_number(double value);

/// amount / of; 0 of 0.
double ratio_or_zero(double amount, double of);

/// "resnet50, full with adam: 8 images of 224 px" and the like.
std::string profile_title(const Profile& profile);

}  // namespace graft
