// The CUDA backend with its kernels on the host model.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace graft::host_model {

/// A call whose work is the driver's.
class NotModelled : public Error {
 public:
  using Error::Error;
};

/// Every block of memory is exactly as large as asked for and starts as NaN.
std::unique_ptr<Backend> make_backend(Precision precision = Precision::f32);

}  // namespace graft::host_model
