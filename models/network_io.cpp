#include "models/network_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "data/parallel.h"
#include "kernels/usable_cores.h"
#include "models/initialise.h"

namespace graft {
namespace {

/// The shape that files give a parameter.
Dimensions file_shape(const Parameter& p) {
  switch (p.role) {
    case Role::conv_weight:
      return {p.shape.n, p.shape.c, p.shape.h, p.shape.w};
    case Role::linear_weight:
      return {p.shape.n, p.shape.c * p.shape.pixels()};
    default:
      return {p.shape.c};
  }
}

bool fits(const WeightTensor* tensor, const Dimensions& shape) { return tensor && tensor->shape == shape; }

void set_values(Tensor& value, const WeightTensor& from) {
  if (from.exact.empty() || value.dtype() != DType::f64)
    value.from_host(std::span<const float>(from.values));
  else
    value.from_host(std::span<const double>(from.exact));
}

void clear(Parameter& p) {
  p.value.backend().zero(p.value.view().data, p.shape.size() * size_of(p.value.dtype()));
  ++p.version;
}

/// The halves of [2,C]: running mean and variance.
Tensor half(const RunningStatistics& s, int row) { return s.value.window(row * s.channels, {1, s.channels, 1, 1}); }

/// A tensor as a file has it.
struct FileTensor {
  std::string name;
  Dimensions shape;
  Tensor value;
  std::uint64_t version = 0;           // changes whenever the values do
  const Parameter* adapted = nullptr;  // the file has its sum with its adapters in place of `value`
};

WeightTensor exact_tensor(const FileTensor& from, const Tensor& value) {
  WeightTensor tensor{from.name, from.shape, value.dtype(), {}, value.to_host()};
  tensor.values.assign(tensor.exact.begin(), tensor.exact.end());
  return tensor;
}

/// From K R S C to the K C R S of files.
void reorder(const float* from, const Shape& s, float* to) {
  const std::int64_t pixels = s.pixels();
  for (std::int64_t k = 0; k < s.n; ++k, from += pixels * s.c)
    for (std::int64_t c = 0; c < s.c; ++c)
      for (std::int64_t i = 0; i < pixels; ++i) *to++ = from[i * s.c + c];
}

/// The device copies one tensor after another, threads do the rest.
std::vector<WeightTensor> to_host(const std::vector<FileTensor>& from) {
  std::vector<WeightTensor> tensors(from.size());
  std::vector<std::vector<float>> unordered(from.size());  // as the device has them
  const int threads = std::min(8, usable_cores());
  const auto is_unordered = [](const Tensor& value) { return value.shape().c > 1 && value.shape().pixels() > 1; };
  parallel_for(std::ssize(from), threads, [&](std::int64_t i) {
    const auto& [name, shape, value, version, adapted] = from[std::size_t(i)];
    if (value.dtype() != DType::f32) return;
    tensors[std::size_t(i)] = {name, shape, DType::f32, std::vector<float>(std::size_t(value.shape().size())), {}};
    if (is_unordered(value)) unordered[std::size_t(i)].resize(std::size_t(value.shape().size()));
  });
  for (std::size_t i = 0; i < from.size(); ++i) {
    const Tensor value = from[i].adapted ? low_rank_sum(*from[i].adapted) : from[i].value;
    if (value.dtype() != DType::f32) {
      tensors[i] = exact_tensor(from[i], value);
      continue;
    }
    std::vector<float>& to = is_unordered(value) ? unordered[i] : tensors[i].values;
    value.backend().copy_out(to.data(), value.view().data, value.shape().size() * std::int64_t(sizeof(float)));
  }
  parallel_for(std::ssize(from), threads, [&](std::int64_t i) {
    std::vector<float>& values = unordered[std::size_t(i)];
    if (values.empty()) return;
    reorder(values.data(), from[std::size_t(i)].value.shape(), tensors[std::size_t(i)].values.data());
    values = {};
  });
  return tensors;
}

constexpr const char* kStatisticsSuffix[2] = {".running_mean", ".running_var"};

/// Every tensor of the network's files, in state_dict order.
std::vector<FileTensor> file_tensors(const Network& network) {
  const auto& statistics = network.parameters().statistics();
  std::size_t next = 0;
  std::vector<FileTensor> tensors;
  for (const Parameter& p : network.parameters().parameters()) {
    if (p.role == Role::adapter) continue;
    const bool is_adapted = p.adapter.up != nullptr;
    const std::uint64_t adapters = is_adapted ? p.adapter.up->version + p.adapter.down->version : 0;
    tensors.push_back({p.name, file_shape(p), p.value, p.version + adapters, is_adapted ? &p : nullptr});
    if (p.role != Role::norm_shift) continue;  // a norm's statistics follow its bias
    const RunningStatistics& s = statistics[next++];
    for (int i : {0, 1}) tensors.push_back({s.name + kStatisticsSuffix[i], {s.channels}, half(s, i), s.version});
  }
  return tensors;
}

}  // namespace

WeightComparison load_weights(Network& network, const WeightTable& weights, const LoadOptions& options) {
  WeightComparison comparison = compare_weights(weights, network.info().network());
  if (options.skips_head) {
    const std::string prefix = classifier_name(network.info().network()) + ".";
    const auto is_head = [&](const auto& tensor) { return tensor.name.starts_with(prefix); };
    std::erase_if(comparison.missing, is_head);
    std::erase_if(comparison.extra, is_head);
    std::erase_if(comparison.mismatched, is_head);
  }
  if (!options.partial && !comparison.is_equal())
    throw Error(fmt::format("weights: they do not fit {} with {} classes and the {} head:\n{}",
                            network.info().architecture, network.num_classes(), network.info().head,
                            comparison_text(comparison)));

  for (Parameter& p : network.parameters().parameters()) {
    if (options.skips_head && network.is_head(p)) continue;
    const WeightTensor* tensor = weights.find(p.name);
    if (!fits(tensor, file_shape(p))) continue;
    set_values(p.value, *tensor);
    ++p.version;
    if (p.adapter.up) clear(network.parameters().find(p.adapter.up->name));
  }
  for (RunningStatistics& s : network.parameters().statistics()) {
    for (int i : {0, 1}) {
      const WeightTensor* tensor = weights.find(s.name + kStatisticsSuffix[i]);
      if (!fits(tensor, {s.channels})) continue;
      Tensor values = half(s, i);
      set_values(values, *tensor);
    }
    ++s.version;
  }
  return comparison;
}

WeightTable weights_of(const Network& network) { return snapshot_of(network, nullptr).weights; }

WeightSnapshot snapshot_of(const Network& network, const WeightSnapshot* earlier) {
  const NoGrad no_grad(network.context());
  const std::vector<FileTensor> all = file_tensors(network);
  assert(!earlier || earlier->versions.size() == all.size());
  const auto is_shared = [&](std::size_t i) { return earlier && earlier->versions[i] == all[i].version; };
  std::vector<FileTensor> changed;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (!is_shared(i)) changed.push_back(all[i]);
  std::vector<WeightTensor> copies = to_host(changed);
  auto copy = copies.begin();
  WeightSnapshot snapshot;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (is_shared(i))
      snapshot.weights.share(earlier->weights, i);
    else
      snapshot.weights.add(std::move(*copy++));
    snapshot.versions.push_back(all[i].version);
  }
  return snapshot;
}

void restore(Network& network, const WeightSnapshot& snapshot) {
  const std::vector<FileTensor> now = file_tensors(network);
  assert(snapshot.versions.size() == now.size());
  WeightTable changed;
  for (std::size_t i = 0; i < now.size(); ++i)
    if (now[i].version != snapshot.versions[i] || now[i].adapted) changed.share(snapshot.weights, i);
  load_weights(network, changed, {.partial = true});
}

std::unique_ptr<Network> load_network(Context& context, const std::filesystem::path& path, std::uint64_t seed) {
  const ModelFile file = read_model_file(path);
  auto network = make_network(context, file.info);
  const bool is_partial = !file.info.random_tensors.empty();  // the reader has judged the rest
  if (is_partial) initialise_from_scratch(*network, seed);
  load_weights(*network, file.weights, {.partial = is_partial});
  return network;
}

std::unique_ptr<Network> load_backbone(Context& context, const std::filesystem::path& path, const NewHead& head) {
  const ModelFile file = read_model_file(path);
  ModelInfo info = file.info;
  info.num_classes = head.num_classes;
  info.class_names = head.class_names;
  if (!head.head.empty()) info.head = head.head;
  std::erase_if(info.random_tensors,
                [&](const std::string& name) { return name.starts_with(classifier_name(file.info.network()) + "."); });
  auto network = make_network(context, info);
  const bool changes_head = info.head != file.info.head;
  const bool is_partial = changes_head || !info.random_tensors.empty();
  if (is_partial) initialise_from_scratch(*network, head.seed);
  load_weights(*network, file.weights, {.partial = is_partial, .skips_head = true});
  initialise_head(*network, head.seed);
  return network;
}

void save_network(const std::filesystem::path& path, const Network& network, const Checkpoint& checkpoint) {
  save_network(path, network.info(), weights_of(network), checkpoint);
}

void save_network(const std::filesystem::path& path, ModelInfo info, const WeightTable& weights,
                  const Checkpoint& checkpoint) {
  info.random_tensors.clear();  // drawn or trained, every tensor has its values now
  write_model_file(path, info, weights, checkpoint);
}

}  // namespace graft
