// What the tests of the host model share: memory on the model, and the expectation of a fault.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/host_model/backend.h"
#include "tests/host_model/host_model.h"
#include "tests/host_model/wrong_kernels.h"

namespace graft {

inline constexpr std::array kOrders = {host_model::Order::forward, host_model::Order::reverse,
                                       host_model::Order::random};

class HostModel : public ::testing::Test {
 protected:
  /// Memory of exactly this size; NaN, or the values.
  template <class T>
  class DeviceArray {
   public:
    explicit DeviceArray(std::size_t size) : size_(size) { data_ = device().allocate(bytes()); }
    explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
      device().copy_in(data_, values.data(), bytes());
    }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    ~DeviceArray() { device().release(data_); }
    T* data() { return static_cast<T*>(data_); }
    std::vector<T> values() const {
      std::vector<T> result(size_);
      device().copy_out(result.data(), data_, bytes());
      return result;
    }

   private:
    std::int64_t bytes() const { return std::int64_t(size_ * sizeof(T)); }
    std::size_t size_;
    void* data_;
  };

  void TearDown() override { host_model::set_order(host_model::Order::forward); }

  static Backend& device() {
    static const std::unique_ptr<Backend> open = host_model::make_backend();
    return *open;
  }

  /// "file.cu:12" for every line that ends in "// name".
  static std::vector<std::string> marked_lines(const std::string& file_name, const std::string& name) {
    std::ifstream file(fmt::format("{}/tests/host_model/{}", GRAFT_SOURCE_DIR, file_name));
    std::vector<std::string> places;
    std::string line;
    for (int number = 1; std::getline(file, line); ++number)
      if (line.ends_with("// " + name)) places.push_back(fmt::format("{}:{}", file_name, number));
    return places;
  }

  static bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

  /// That a launch throws the fault, which names the marked line, the kernel, the block and the thread.
  static void expect_fault(const WrongKernel& wrong, const std::string& file_name) {
    SCOPED_TRACE(wrong.name);
    DeviceArray<float> x(std::vector<float>(128, 1.0f));
    try {
      wrong.launch(x.data());
      ADD_FAILURE() << "not reported";
    } catch (const host_model::Fault& fault) {
      const std::string text = fault.what();
      EXPECT_EQ(int(fault.kind), int(wrong.kind)) << text;
      EXPECT_TRUE(contains(text, wrong.says)) << text << " does not say " << wrong.says;
      const std::vector<std::string> places = marked_lines(file_name, wrong.name);
      EXPECT_TRUE(std::any_of(places.begin(), places.end(), [&](const auto& p) { return contains(text, p); }))
          << text << " names none of " << ::testing::PrintToString(places);
      EXPECT_TRUE(contains(text, wrong.name + "(") || contains(text, wrong.name + "<")) << text;
      EXPECT_TRUE(contains(text, "block (") && contains(text, "thread (")) << text;
    }
  }
};

}  // namespace graft
