// Reading the weight files of Keras applications (.h5): ResNet-50 in its old file and ResNets of the new ones,
// DenseNets, VGGs. Layers are mapped by name and their tensors by position; the result has torchvision's names and
// layout. The HDF5 calls are in hdf5_file.h, the choice between formats in weight_import.h. Source:
// keras/engine/saving.py (Keras 2), keras-applications' model files.
#pragma once

#include <filesystem>
#include <string>

#include "data/hdf5_file.h"
#include "data/weight_table.h"

namespace graft {

/// Weights and what Keras's definition of the network fixes beside them.
struct KerasWeights {
  WeightTable weights;            // torchvision's names, OIHW and (out, in); biases of ResNet's convolutions folded
  std::string architecture;       // "resnet50"; empty when the layers are of none
  std::string stride_on = "3x3";  // Keras's ResNets are v1: "1x1"
  double bn_epsilon = 1e-5;
  std::string preprocess = "torch";  // or "caffe"
};

/// Layers without a known name keep their own ("dense_1/kernel:0"), so that a comparison shows them.
/// Damage inside HDF5's own headers, which this format leaves without checksums, is noticed as far as HDF5 notices it.
/// Errors: Keras 3's .weights.h5, kernels of the Theano backend, layers whose tensors do not fit their kind.
KerasWeights read_keras_h5(const std::filesystem::path& path);

}  // namespace graft
