// Capturing calls so that an error among them ends the capture too.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace graft {

/// What `calls` asks of the device, captured and not run; see Backend::begin_capture. Errors: those of `calls`.
template <class Calls>
std::unique_ptr<CapturedStep> captured_calls(Backend& device, const Calls& calls) {
  device.begin_capture();
  try {
    calls();
  } catch (...) {
    try {
      device.end_capture();
    } catch (const Error&) {  // follows from the first one
    }
    throw;
  }
  return device.end_capture();
}

}  // namespace graft
