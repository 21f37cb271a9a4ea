#include "tests/support/op_cases.h"

namespace graft {

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> t;
    add_conv_cases(t, CaseSize::small);
    add_linear_cases(t, CaseSize::small);
    add_norm_cases(t, CaseSize::small);
    add_norm_chains(t);
    add_norm_conv_cases(t, CaseSize::small);
    add_pool_cases(t, CaseSize::small);
    add_softmax_cases(t, CaseSize::small);
    add_report_cases(t, CaseSize::small);
    add_map_cases(t, CaseSize::small);
    add_copy_cases(t, CaseSize::small);
    add_update_cases(t, CaseSize::small);
    add_image_cases(t, CaseSize::small);
    return t;
  }();
  return table;
}

namespace {

/// Those with activations, stored in a type.
std::vector<OpCase> stored_in(DType stored, const std::vector<OpCase>& cases) {
  std::vector<OpCase> table;
  for (OpCase c : cases) {
    bool has_activations = false;
    for (Operand& o : c.operands) {
      if (o.is_activation) o.stored = stored, has_activations = true;
      if (o.may_pass_activation) o.passed = stored;
    }
    if (!has_activations) continue;
    c.name += "_" + std::string(to_string(stored));
    table.push_back(std::move(c));
  }
  return table;
}

}  // namespace

const std::vector<OpCase>& op_cases_in(DType type) {
  static const std::vector<OpCase> bf16 = stored_in(DType::bf16, op_cases()), f16 = stored_in(DType::f16, op_cases());
  return type == DType::bf16 ? bf16 : f16;
}

const std::vector<OpCase>& large_cases_in(DType type) {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> t;
    add_conv_cases(t, CaseSize::large);
    add_norm_conv_cases(t, CaseSize::large);
    return t;
  }();
  static const std::vector<OpCase> bf16 = stored_in(DType::bf16, cases), f16 = stored_in(DType::f16, cases);
  return type == DType::bf16 ? bf16 : f16;
}

const std::vector<OpCase>& speed_cases() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> t;
    add_conv_cases(t, CaseSize::real);
    add_linear_cases(t, CaseSize::real);
    add_norm_cases(t, CaseSize::real);
    add_norm_conv_cases(t, CaseSize::real);
    add_pool_cases(t, CaseSize::real);
    add_softmax_cases(t, CaseSize::real);
    add_report_cases(t, CaseSize::real);
    add_map_cases(t, CaseSize::real);
    add_copy_cases(t, CaseSize::real);
    add_update_cases(t, CaseSize::real);
    add_image_cases(t, CaseSize::real);
    return t;
  }();
  return table;
}

}  // namespace graft
