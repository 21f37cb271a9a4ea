// Memory of a device that a call needs only while it runs.
#pragma once

#include "kernels/backend.h"

namespace graft {

class Scratch {
 public:
  /// Errors: Backend::allocate's.
  Scratch(Backend& device, std::int64_t bytes) : device_(device), data_(device.allocate(bytes)) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { device_.release(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  Backend& device_;
  void* data_;
};

/// The same as a dense tensor.
class ScratchView {
 public:
  ScratchView(Backend& device, DType dtype, const Shape& shape, const Format& format = kNhwc)
      : memory_(device, shape.size() * size_of(dtype)),
        view_{.data = memory_.as<void>(), .dtype = dtype, .format = format, .shape = shape, .pitch = shape.c} {}
  const View& view() const { return view_; }
  operator View() const { return view_; }
  operator ConstView() const { return view_; }

 private:
  Scratch memory_;
  View view_;
};

}  // namespace graft
