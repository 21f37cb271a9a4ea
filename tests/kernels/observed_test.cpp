// What ObservedBackend says of a call is checked on every op case: memory that a call is not said to read is
// overwritten before it runs, and memory that it is not said to write must be as it was afterwards.
#include <gtest/gtest-spi.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "kernels/observed_backend.h"
#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

/// Runs each call twice from the same memory: as it stands, and with all that it does not read set to 0xFF.
class AccessCheck final : public DeviceObserver {
 public:
  void* allocate(std::int64_t bytes, Backend& device) override {
    void* block = device.allocate(bytes);
    sizes_[static_cast<std::byte*>(block)] = bytes;
    return block;
  }
  void release(void* block, Backend& device) noexcept override {
    sizes_.erase(static_cast<std::byte*>(block));
    device.release(block);
  }

  void call(const DeviceCall& call, const std::function<void()>& run) override {
    if (call.uses_host || !is_checking) return run();
    ++calls;
    const Memory before = memory();
    Memory blind = before;
    for (auto& [block, bytes] : blind) std::ranges::fill(bytes, std::byte{0xFF});
    take(blind, call.reads, before);
    take(blind, call.refreshes, before);
    restore(blind);
    run();
    const Memory blind_after = memory();
    restore(before);
    run();
    const Memory after = memory();
    Memory expected = before;
    take(expected, call.writes, after);
    take(expected, call.refreshes, after);
    EXPECT_TRUE(after == expected) << call.op << " " << call.detail << ": wrote what it is not said to write";
    Memory results = after;
    take(results, call.writes, blind_after);
    take(results, call.refreshes, blind_after);
    EXPECT_TRUE(results == after) << call.op << " " << call.detail << ": read what it is not said to read";
  }

  bool is_checking = true;
  int calls = 0;

 private:
  using Memory = std::map<std::byte*, std::vector<std::byte>>;

  Memory memory() const {
    Memory copy;
    for (const auto& [block, bytes] : sizes_) copy[block] = {block, block + bytes};
    return copy;
  }
  static void restore(const Memory& memory) {
    for (const auto& [block, bytes] : memory) std::ranges::copy(bytes, block);
  }
  /// Sets `regions` of `to` to what `from` holds there.
  static void take(Memory& to, const std::vector<Region>& regions, const Memory& from) {
    for (const Region& r : regions) {
      const auto block = std::prev(to.upper_bound(const_cast<std::byte*>(r.data)));
      const std::vector<std::byte>& source = from.at(block->first);
      for (std::int64_t row = 0; row < r.rows; ++row) {
        const std::int64_t begin = r.data + row * r.row_stride - block->first;
        ASSERT_LE(begin + r.row_bytes, std::int64_t(source.size())) << "a region ends outside its block";
        std::copy_n(source.begin() + begin, r.row_bytes, block->second.begin() + begin);
      }
    }
  }

  std::map<std::byte*, std::int64_t> sizes_;
};

TEST(ObservedBackend, SaysWhatEveryCallReadsAndWrites) {
  AccessCheck check;
  ObservedBackend device(make_backend({DeviceKind::reference}), check);
  for (const OpCase& op : op_cases())
    for (const Write write : {Write::overwrite, Write::add}) {
      if (write == Write::add && !op.takes_write()) continue;
      SCOPED_TRACE(op.name);
      CaseOperands operands(device, op, write, formats_of(op, device));
      const int before = check.calls;
      op.run(device, operands, write);
      EXPECT_GT(check.calls, before) << "no call was seen";
    }
}

TEST(ObservedBackend, NoticesACallThatHidesAnAccess) {
  AccessCheck check;
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::reference});
  auto* x = static_cast<double*>(check.allocate(16, *device));
  auto* y = static_cast<double*>(check.allocate(16, *device));
  x[0] = x[1] = y[0] = y[1] = 1;
  const Region first{reinterpret_cast<std::byte*>(y), 1, 8, 8}, input{reinterpret_cast<std::byte*>(x), 1, 8, 8};
  EXPECT_NONFATAL_FAILURE(check.call({.op = "test", .detail = {}, .writes = {first}, .reads = {}}, [&] { *y = *x; }),
                          "read what it is not said to read");
  EXPECT_NONFATAL_FAILURE(
      check.call({.op = "test", .detail = {}, .writes = {first}, .reads = {input}}, [&] { y[0] = x[0], y[1] = 2; }),
      "wrote what it is not said to write");
  check.call({.op = "test", .detail = {}, .writes = {first}, .reads = {input}}, [&] { y[0] = x[0]; });
  check.release(x, *device);
  check.release(y, *device);
}

TEST(ObservedBackend, CountsTheWorkOfConvolutionsAndMatrixProducts) {
  struct Count final : DeviceObserver {
    void call(const DeviceCall& call, const std::function<void()>&) override {  // a dry run: nothing is computed
      flops += call.flops;
      bytes = call.bytes();
      detail = call.detail;
    }
    double flops = 0;
    std::int64_t bytes = 0;
    std::string detail;
  } count;
  ObservedBackend device(make_backend({DeviceKind::reference}), count);
  double memory[1];  // of any size: only addresses are looked at
  const auto view = [&](const Shape& shape) { return View{memory, DType::f64, kNhwc, shape, shape.c}; };
  const ConvSpec spec{
      .x = {2, 64, 56, 56}, .k = 128, .r = 3, .s = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1};
  device.conv(spec, view(spec.y()), view(spec.x), {view({128, 64, 3, 3})}, {});
  EXPECT_EQ(count.flops, 2.0 * 2 * 28 * 28 * 128 * 64 * 9);
  EXPECT_EQ(count.bytes, 8 * (2 * 64 * 56 * 56 + 2 * 128 * 28 * 28 + 128 * 64 * 9));
  EXPECT_EQ(count.detail, "3x3 64->128 /2 [2,64,56,56]");
  count.flops = 0;
  device.linear_weight_grad(view({10, 32, 1, 1}), Write::add, view({4, 10, 1, 1}), view({4, 32, 1, 1}));
  EXPECT_EQ(count.flops, 2.0 * 4 * 10 * 32);
  EXPECT_EQ(count.bytes, 8 * (2 * 320 + 40 + 128));
  const View index{memory, DType::i32, kNhwc, {3, 1, 1, 1}, 1};
  device.index_select(view({3, 16, 4, 4}), view({100, 16, 4, 4}), index);
  EXPECT_EQ(count.bytes, 8 * 2 * 3 * 256 + 4 * 3) << "what is picked, not all there is";
}

}  // namespace
}  // namespace graft
