#include "models/network.h"

#include "models/constructors.h"

namespace graft {

Tensor Network::head(const Tensor& features) const { return (*head_)(dropout(features, dropout_)); }

bool Network::is_head(const Parameter& parameter) const {
  const auto& all = parameters_.parameters();
  return &parameter == &all[all.size() - 1] || &parameter == &all[all.size() - 2];
}

void Network::set_dropout(double p) {
  if (!(p >= 0 && p < 1)) throw Error("dropout: the probability must be in [0, 1), got " + std::to_string(p));
  dropout_ = p;
}

std::unique_ptr<Network> make_network(Context& context, const ModelInfo& info) {
  expected_tensors(info.network());  // judges architecture, head and classes
  if (info.stride_on != "3x3" && info.stride_on != "1x1")
    throw Error("network: stride_on is \"" + info.stride_on + "\"; use 3x3 (ResNet v1.5) or 1x1 (v1)");
  std::unique_ptr<Network> network = info.architecture == "resnet50"      ? make_resnet50(info)
                                     : info.architecture == "densenet121" ? make_densenet121(info)
                                                                          : make_vgg19(info);
  network->parameters().allocate(context);
  return network;
}

}  // namespace graft
