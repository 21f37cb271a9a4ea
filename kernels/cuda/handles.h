// One owner for every CUDA resource: move-only, released by a destructor that never throws.
#pragma once

#include <utility>

namespace graft::gpu {

/// T is a pointer-like handle, null when empty; Destroy releases it. Failures to destroy are ignored: they can only
/// repeat an error that an earlier call reported.
template <class T, auto Destroy>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    if (handle_) static_cast<void>(Destroy(handle_));
  }

  T get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }
  /// For calls that create: `create(handle.out())`; the handle must be empty.
  T* out() { return &handle_; }

 private:
  T handle_ = nullptr;
};

}  // namespace graft::gpu
