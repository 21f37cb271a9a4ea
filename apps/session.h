// What verbs that compute share: the device and how it is announced, and the text of an evaluation.
#pragma once

#include <memory>
#include <string>

#include "kernels/observed_backend.h"
#include "strategies/train_settings.h"
#include "strategies/training/evaluation.h"

namespace graft {

struct Session {
  std::unique_ptr<Context> context;
  std::string heading;  // "device: cpu, oneDNN 2.6.3, …; no GPU: …", "precision: bf16, float32 masters"
};

/// Opens the device that the settings name; `observer`, which must outlive it, sees its calls. A precision of "auto"
/// becomes what it is on that device. Errors: unknown (UsageError) or unusable device, with the reason; a precision
/// that it lacks.
Session open_session(TrainSettings& settings, DeviceObserver* observer = nullptr);

/// The metrics and the confusion matrix, for people.
std::string evaluation_text(const EvaluationResult& result);

}  // namespace graft
