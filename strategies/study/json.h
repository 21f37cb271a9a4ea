// A study's specification as text for programs: study.json.
#pragma once

#include <string>
#include <string_view>

#include "strategies/study/study.h"

namespace graft {

/// The spec as it was understood; paths absolute.
std::string to_json(const StudySpec& spec);
/// Errors: not such a text; `name` begins the message.
StudySpec study_from_json(std::string_view text, const std::string& name);

}  // namespace graft
