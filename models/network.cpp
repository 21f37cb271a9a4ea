#include "models/network.h"

#include <algorithm>

#include "models/constructors.h"

namespace graft {

Tensor Network::run_parts(const Tensor& x, int begin, int end) const {
  if (begin < 0 || begin > end || end > parts())
    throw Error("network: no parts [" + std::to_string(begin) + ", " + std::to_string(end) + ") among " +
                std::to_string(parts()));
  const Tensor y = begin < head_part() ? run_body(x, begin, std::min(end, head_part())) : x;
  if (begin > head_part() || end != parts()) return y;
  const auto dropped = [&] {
    const Scope scope(y.context(), "dropout");
    return dropout(y, dropout_);
  };
  return (*head_)(dropped());
}

const std::string& Network::part_name(int part) const {
  static const std::string kHead = "the head";
  return part == head_part() ? kHead : blocks_.at(std::size_t(part));
}

bool Network::is_head(const Parameter& parameter) const {
  const auto& all = parameters_.parameters();
  return &parameter == &all[head_begin_] || &parameter == &all[head_begin_ + 1];
}

void Network::set_dropout(double p) {
  if (!(p >= 0 && p < 1)) throw Error("dropout: the probability must be in [0, 1), got " + std::to_string(p));
  dropout_ = p;
}

std::unique_ptr<Network> make_network(Context& context, const ModelInfo& info) {
  expected_tensors(info.network());  // judges architecture, head and classes
  if (info.stride_on != "3x3" && info.stride_on != "1x1")
    throw Error("network: stride_on is \"" + info.stride_on + "\"; use 3x3 (ResNet v1.5) or 1x1 (v1)");
  const Architecture& architecture = architecture_of(info.architecture);
  const auto make = [&] {
    switch (architecture.family) {
      case Family::resnet:
        return make_resnet(architecture, info);
      case Family::densenet:
        return make_densenet(architecture, info);
      case Family::vgg:
        break;
    }
    return make_vgg(architecture, info);
  };
  std::unique_ptr<Network> network = make();
  network->parameters().allocate(context);
  return network;
}

}  // namespace graft
