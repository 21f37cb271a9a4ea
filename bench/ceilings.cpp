// What this machine can do at most, as seen through graft's own calls: the rate of a large matrix product and the
// bandwidth of a large copy (bytes read plus bytes written). gpu_goals.py derives bounds from it. Prints one JSON line.
//     graft_ceilings [--device cpu] [--threads 0] [--side 8192] [--copy-mib 1024] [--precision f32]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "bench/device_options.h"

namespace {

using namespace graft;

struct Ceilings {
  std::int64_t side = 8192, copy_mib = 1024;
  DeviceOptions device;
};

/// A dense matrix [rows, columns].
class Matrix {
 public:
  Matrix(Backend& device, std::int64_t rows, std::int64_t columns, DType dtype)
      : device_(device),
        rows_(rows),
        columns_(columns),
        dtype_(dtype),
        data_(device.allocate(rows * columns * size_of(dtype))) {
    device.zero(data_, rows * columns * size_of(dtype));
  }
  ~Matrix() { device_.release(data_); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  View view() const { return {data_, dtype_, kNhwc, {rows_, columns_, 1, 1}, columns_}; }

  /// Small numbers, none zero: matrix units run faster on zeros.
  void fill() {
    std::vector<float> numbers(std::size_t(rows_ * columns_));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = float(i * 2654435761U % 1999) / 1e3f - 0.9995f;
    const Matrix floats(device_, rows_, columns_, DType::f32);
    device_.copy_in(floats.data_, numbers.data(), std::ssize(numbers) * size_of(DType::f32));
    device_.copy(view(), Write::overwrite, floats.view());
    device_.synchronize();
  }

 private:
  Backend& device_;
  std::int64_t rows_, columns_;
  DType dtype_;
  void* data_;
};

/// Median over rounds of the seconds that one call takes when several are queued one after another.
double seconds_of(Backend& device, const std::function<void()>& call) {
  constexpr int kRounds = 7, kCalls = 5;
  call();
  device.synchronize();
  std::vector<double> seconds;
  for (int round = 0; round < kRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    device.synchronize();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kCalls);
  }
  std::ranges::nth_element(seconds, seconds.begin() + kRounds / 2);
  return seconds[kRounds / 2];
}

double matrix_flops(Backend& device, std::int64_t side) {
  const DType dtype = device.activation_type();
  Matrix x(device, side, side, dtype), w(device, side, side, dtype);
  const Matrix y(device, side, side, dtype);
  x.fill(), w.fill();
  const double seconds = seconds_of(device, [&] { device.linear(y.view(), x.view(), {.value = w.view()}, {}); });
  return 2 * double(side) * double(side) * double(side) / seconds;
}

double copy_bytes(Backend& device, std::int64_t mib) {
  const std::int64_t columns = 1 << 10, rows = mib * (1 << 20) / columns / size_of(DType::f32);
  Matrix from(device, rows, columns, DType::f32);
  const Matrix to(device, rows, columns, DType::f32);
  from.fill();
  const double seconds = seconds_of(device, [&] { device.copy(to.view(), Write::overwrite, from.view()); });
  return 2 * double(mib << 20) / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  Ceilings c;
  CLI::App app("Measures the rate of a matrix product and of a copy through graft's calls");
  add_to(app, c.device);
  app.add_option("--side", c.side)->check(CLI::PositiveNumber);
  app.add_option("--copy-mib", c.copy_mib)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    const auto device = c.device.open();
    const double flops = matrix_flops(*device, c.side), bytes = copy_bytes(*device, c.copy_mib);
    fmt::print("{{\"name\": \"graft, {}\", \"precision\": \"{}\", \"matrix_flops\": {:.6g}, \"copy_bytes\": {:.6g}}}\n",
               device->description(), to_string(c.device.backend.precision), flops, bytes);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
