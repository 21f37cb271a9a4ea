// What every page of the program must be: one file, well formed, that fetches nothing.
#pragma once

#include <string>

namespace graft::testing {

/// Every opened element is closed, in order; nothing is fetched from anywhere; no number is written as nan or inf.
void expect_page(const std::string& html);

}  // namespace graft::testing
