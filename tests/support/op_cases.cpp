#include "tests/support/op_cases.h"

namespace graft {

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> t;
    add_conv_cases(t, CaseSize::small);
    add_linear_cases(t, CaseSize::small);
    add_norm_cases(t, CaseSize::small);
    add_norm_chains(t);
    add_pool_cases(t, CaseSize::small);
    add_softmax_cases(t, CaseSize::small);
    add_map_cases(t, CaseSize::small);
    add_copy_cases(t, CaseSize::small);
    add_update_cases(t, CaseSize::small);
    return t;
  }();
  return table;
}

const std::vector<OpCase>& speed_cases() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> t;
    add_conv_cases(t, CaseSize::real);
    add_linear_cases(t, CaseSize::real);
    add_norm_cases(t, CaseSize::real);
    add_pool_cases(t, CaseSize::real);
    add_softmax_cases(t, CaseSize::real);
    add_map_cases(t, CaseSize::real);
    add_copy_cases(t, CaseSize::real);
    add_update_cases(t, CaseSize::real);
    return t;
  }();
  return table;
}

}  // namespace graft
