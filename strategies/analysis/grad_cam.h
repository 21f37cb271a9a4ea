// Grad-CAM: where in an image a network finds what speaks for a class (Selvaraju et al. 2017, "Grad-CAM: visual
// explanations from deep networks via gradient-based localization"). For the activations A [K,h,w] of the last
// convolutions and the class's logit y,
//   weight_k = mean over places of dy/dA_k,   evidence = relu(sum over k of weight_k * A_k),
// with the gradient from the tape. The map shows where, at the size of those activations (7 x 7 or 14 x 14 of a 224
// pixel image), not which pixels; and what speaks against the class is not in it.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/image.h"
#include "models/network.h"

namespace graft {

/// What speaks for one class in one image, as coarse as the network has it.
struct ClassEvidence {
  std::int64_t class_index = 0;
  double probability = 0;
  std::int64_t rows = 0, columns = 0;
  std::vector<double> evidence;  // (rows, columns), in logits per unit of activation; never negative
};

/// Evidence for each image of x [N,3,H,W]. `classes` has one index per image, or is empty; -1 and empty mean the class
/// of the highest logit. Evaluation mode; freezes all parameters of the network, which keeps the tape short.
/// Errors: a class that the network does not have; another number of classes than images.
std::vector<ClassEvidence> class_evidence(Network& network, const Tensor& x, std::span<const std::int64_t> classes);

struct GradCam : ClassEvidence {
  std::int64_t width = 0, height = 0;  // of the network's input
  std::vector<float> map;  // (height, width), 0 to 1: evidence over its largest, bilinear between the centres; or all 0
  Image input;             // what the network saw, before normalisation
};

/// A network that explains itself, image after image.
class Explainer {
 public:
  /// RUN or MODEL.h5; `size` as of `--size`, 0 for the model's own. Errors: as read_model_file.
  Explainer(Context& context, const std::filesystem::path& run_or_model, std::int64_t size = 0);

  const ModelInfo& info() const { return network_->info(); }
  /// Files as one batch; `classes` as above. Errors: as above; a file that cannot be decoded.
  std::vector<GradCam> explain(std::span<const std::string> images, std::span<const std::int64_t> classes);

 private:
  std::unique_ptr<Network> network_;
};

/// The same for a list of any length.
std::vector<GradCam> grad_cam(Context& context, const std::filesystem::path& run_or_model,
                              std::span<const std::string> images, std::span<const std::int64_t> classes);

/// The input with the map over it: the hotter, the more of blue - cyan - yellow - red; what is cold stays as it is.
Image overlay(const GradCam& explanation);

}  // namespace graft
