// The one table of op cases: every call of a device with concrete shapes and parameters. The tests hold devices against
// the reference with it and the reference's gradients against central differences; bench/op_bench.cpp times it.
// Shapes are small and odd, parameters differ from their defaults and from each other, so that a mix-up shows.
// It uses no test framework. Cases are written in op_cases_<subject>.cpp, how they run is in op_case_run.cpp.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace graft {

/// How an operand's values are drawn. Every value is exact in f32, so all devices start from the same numbers.
struct Fill {
  enum class Kind { uniform, separated, distinct, whole } kind = Kind::uniform;
  double low = -1, high = 1;
};
inline Fill uniform(double low, double high) { return {Fill::Kind::uniform, low, high}; }
/// Alternating signs, |value| in [low, high): keeps clear of a kink at zero, in sums of few as well.
inline Fill separated(double low, double high) { return {Fill::Kind::separated, low, high}; }
/// All different, neighbours 1/64 apart: keeps clear of ties.
inline Fill distinct() { return {Fill::Kind::distinct}; }
/// 0, 1 .. count-1: labels, or values with many ties.
inline Fill whole(double count) { return {Fill::Kind::whole, 0, count}; }

enum class Role {
  input,    // must come back unchanged
  output,   // overwritten (starts as NaN) or added to (starts with values), as the run's Write says
  fresh,    // always overwritten, starts as NaN
  updated,  // starts with values, always changed in place
  aside     // only the forward of a gradient check reads or writes it
};

enum class FormatFrom { given, conv_x, conv_y };

struct Operand {
  std::string name;
  Role role = Role::input;
  Shape shape;
  Fill fill;
  std::optional<DType> dtype;  // none: the device's compute type
  Format format = kNhwc;
  FormatFrom format_from = FormatFrom::given;            // else what the device's conv_formats answers
  std::int64_t channels_before = 0, channels_after = 0;  // of the buffer that this operand is a channel slice of
  bool is_activation = false;                            // may be stored in 16 bits
  std::optional<DType> stored;                           // how, in such a case: see op_cases_in
  bool may_pass_activation = false;  // wider, but a device may have it in the activations' type on the way
  std::optional<DType> passed = {};  // which, in such a case
  std::function<void(std::vector<double>&)> adjust;  // last touch on the drawn values, in N C H W order

  std::int64_t pitch() const { return channels_before + shape.c + channels_after; }
  Operand in(Format f) const;
  Operand from(FormatFrom f) const;
  Operand slice(std::int64_t before, std::int64_t after) const;
  Operand of(DType type) const;
  Operand activation() const;
  Operand by_way_of_activation() const;
  Operand adjusted(std::function<void(std::vector<double>&)> f) const;
};
inline Operand input(std::string name, Shape shape, Fill fill = {}) {
  return {std::move(name), Role::input, shape, fill};
}
inline Operand output(std::string name, Shape shape) { return {std::move(name), Role::output, shape}; }
inline Operand fresh(std::string name, Shape shape) { return {std::move(name), Role::fresh, shape}; }
inline Operand updated(std::string name, Shape shape, Fill fill = {}) {
  return {std::move(name), Role::updated, shape, fill};
}
inline Operand aside(std::string name, Shape shape, Fill fill = {}) {
  return {std::move(name), Role::aside, shape, fill};
}

class CaseOperands;
using RunCase = std::function<void(Backend&, CaseOperands&, Write)>;

/// That elements first, first + 1, … of operand `gradient` are the derivative by operand `of` of
/// sum over `objective`'s pairs (y, dy) of <y, dy>, where the forward computes y.
struct GradientClaim {
  std::string gradient, of;
  std::int64_t first = 0;
};

struct OpCase {
  std::string call;  // the Backend call: "conv_data_grad", "map:Relu", "update:AdamStep"
  std::string name;  // "conv_data_grad/7x7_stride2"
  std::vector<Operand> operands;
  RunCase run;
  double terms = 1;               // longest sum behind an output element
  double flops = 0;               // of one run, for the benchmark
  bool exact = false;             // results of Write::overwrite must equal the reference's to the bit
  int stores = 1;                 // how often an output element is written, and so rounded, on its way
  bool needs_relu_masks = false;  // for devices with has_relu_masks() alone
  int functor = -1;               // index into MapFunctors of a map case
  std::optional<ConvSpec> conv;
  std::function<void(Backend&, CaseOperands&)> forward;
  std::vector<std::pair<std::string, std::string>> objective;
  std::vector<GradientClaim> claims;

  bool takes_write() const;
  double bytes(const Backend& backend) const;  // read and written by one overwriting run
  bool runs_on(DeviceKind device) const { return device != DeviceKind::cpu || !needs_relu_masks; }  // a CPU has none
};

/// The operands of a case on a device, each in memory of its own between guard bytes of NaN.
class CaseOperands {
 public:
  static constexpr std::int64_t kGuardBytes = 256;  // keeps the alignment of the device's blocks

  /// formats: as formats_of returned them. guard_bytes: before and after each operand.
  CaseOperands(Backend& backend, const OpCase& op, Write write, const std::vector<Format>& formats,
               std::int64_t guard_bytes = kGuardBytes);
  CaseOperands(const CaseOperands&) = delete;
  CaseOperands& operator=(const CaseOperands&) = delete;
  ~CaseOperands();

  View operator[](const std::string& name) const;
  WeightView weight(const std::string& name) const { return {(*this)[name]}; }
  /// Row `row` of a matrix [rows,C] as a vector [1,C,1,1].
  View row(const std::string& name, std::int64_t row) const;
  /// Elements in N C H W order.
  std::vector<double> values(const std::string& name) const;
  void set(const std::string& name, const std::vector<double>& values);
  /// What a run must not touch and did: inputs, guard bytes, the other channels of a buffer. Empty: nothing.
  std::string damage() const;

 private:
  struct Buffer {
    Operand operand;
    Format format;
    DType dtype;
    void* block = nullptr;
    std::vector<unsigned char> bytes;  // as uploaded
  };
  const Buffer& find(const std::string& name) const;
  View view_in(const Buffer& b, void* block) const;

  Backend& backend_;
  std::int64_t guard_bytes_;
  std::map<std::string, Buffer> buffers_;
};

/// The formats of a case's operands, in order, for a device.
std::vector<Format> formats_of(const OpCase& op, Backend& backend);

/// Small cases for tests.
const std::vector<OpCase>& op_cases();
/// The same calls at the sizes of real networks, for measuring.
const std::vector<OpCase>& speed_cases();

/// The small cases that have activations, which a device holds in bf16 or f16. The reference holds the same values,
/// that is rounded ones, in double: its results are the truth before rounding.
const std::vector<OpCase>& op_cases_in(DType type);
/// Cases of sizes at which a GPU's kernels go other ways, and which take the reference seconds; likewise.
const std::vector<OpCase>& large_cases_in(DType type);

/// The parts of the table.
enum class CaseSize { small, real, large };
void add_conv_cases(std::vector<OpCase>& table, CaseSize size);
void add_linear_cases(std::vector<OpCase>& table, CaseSize size);
void add_norm_cases(std::vector<OpCase>& table, CaseSize size);
void add_norm_chains(std::vector<OpCase>& table);
void add_norm_conv_cases(std::vector<OpCase>& table, CaseSize size);
void add_pool_cases(std::vector<OpCase>& table, CaseSize size);
void add_softmax_cases(std::vector<OpCase>& table, CaseSize size);
void add_report_cases(std::vector<OpCase>& table, CaseSize size);
void add_map_cases(std::vector<OpCase>& table, CaseSize size);
void add_copy_cases(std::vector<OpCase>& table, CaseSize size);
void add_update_cases(std::vector<OpCase>& table, CaseSize size);
void add_image_cases(std::vector<OpCase>& table, CaseSize size);

}  // namespace graft
