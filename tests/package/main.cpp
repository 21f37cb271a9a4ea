// A program outside graft's tree, built by package_test.cmake against an installed graft.
#include <iostream>

#include "kernels/build_info.h"
#include "kernels/core.h"

int main() {
  const graft::ConvSpec conv{.x = {8, 3, 224, 224}, .k = 64, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3,
                             .pad_w = 3};
  std::cout << "graft " << graft::build_info().version << ": " << graft::to_string(conv.y()) << "\n";
  return conv.y().h == 112 ? 0 : 1;
}
