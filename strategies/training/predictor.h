// Prediction alone, many times over: the network's calls for a batch are captured once and replayed where the device
// can (Backend::supports_capture), which is what a small batch waits for. Norms are folded into convolutions
// (Inference).
#pragma once

#include <map>

#include "models/network.h"
#include "strategies/training/replayed_calls.h"

namespace graft {

class Predictor {
 public:
  /// While it lives, the context predicts: nothing is recorded, running statistics are used. `captures`: on devices
  /// that can.
  explicit Predictor(const Network& network, bool captures = true);

  /// Logits (N, classes) of images [N,3,H,W]; the next batch of as many images may overwrite them. A replay needs `x`
  /// at the address of the last such batch (images_to_device keeps it) and weights that have not changed since; else
  /// the calls are made, and captured, anew.
  Tensor operator()(const Tensor& x);
  /// Batches that were replays so far.
  std::int64_t replays() const { return replays_; }

 private:
  struct Identity {
    const void* x = nullptr;
    std::uint64_t weights = 0;
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  struct Batch {
    ReplayedCalls<Identity> calls;
    Tensor logits;  // of the captured calls
  };
  Tensor replay(Batch& batch, const PlannedStep& step, const Tensor& x);

  const Network& network_;
  Context& context_;
  const bool captures_;
  const Inference inference_;
  const EvaluationMode evaluation_;
  std::map<Shape, Batch> batches_;
  std::int64_t replays_ = 0;
};

}  // namespace graft
