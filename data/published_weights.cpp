#include "data/published_weights.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "data/md5.h"

namespace graft {
namespace {

struct Published {
  std::string_view hash, name;
};

// download.pytorch.org/models: the eight digits in each name begin the file's SHA-256.
constexpr Published kBySha256[] = {
    {"f37072fd", "torchvision resnet18-f37072fd.pth (IMAGENET1K_V1)"},
    {"b627a593", "torchvision resnet34-b627a593.pth (IMAGENET1K_V1)"},
    {"0676ba61", "torchvision resnet50-0676ba61.pth (IMAGENET1K_V1)"},
    {"11ad3fa6", "torchvision resnet50-11ad3fa6.pth (IMAGENET1K_V2, evaluated with resize 232)"},
    {"19c8e357", "torchvision resnet50-19c8e357.pth (2017)"},
    {"63fe2227", "torchvision resnet101-63fe2227.pth (IMAGENET1K_V1)"},
    {"cd907fc2", "torchvision resnet101-cd907fc2.pth (IMAGENET1K_V2, evaluated with resize 232)"},
    {"394f9c45", "torchvision resnet152-394f9c45.pth (IMAGENET1K_V1)"},
    {"f82ba261", "torchvision resnet152-f82ba261.pth (IMAGENET1K_V2, evaluated with resize 232)"},
    {"a639ec97", "torchvision densenet121-a639ec97.pth (IMAGENET1K_V1)"},
    {"b2777c0a", "torchvision densenet169-b2777c0a.pth (IMAGENET1K_V1)"},
    {"c1103571", "torchvision densenet201-c1103571.pth (IMAGENET1K_V1)"},
    {"8a719046", "torchvision vgg11-8a719046.pth (IMAGENET1K_V1)"},
    {"19584684", "torchvision vgg13-19584684.pth (IMAGENET1K_V1)"},
    {"397923af", "torchvision vgg16-397923af.pth (IMAGENET1K_V1)"},
    {"6002323d", "torchvision vgg11_bn-6002323d.pth (IMAGENET1K_V1)"},
    {"abd245e5", "torchvision vgg13_bn-abd245e5.pth (IMAGENET1K_V1)"},
    {"6c64b313", "torchvision vgg16_bn-6c64b313.pth (IMAGENET1K_V1)"},
    {"c79401a0", "torchvision vgg19_bn-c79401a0.pth (IMAGENET1K_V1)"},
    {"dcbb9e9d", "torchvision vgg19-dcbb9e9d.pth (IMAGENET1K_V1)"},
};

// keras-applications' model files.
constexpr Published kByMd5[] = {
    {"a7b3fe01876f51b976af0dea6bc144eb", "Keras ResNet-50 v0.2 (old file)"},
    {"a268eb855778b3df3c7506639542a6af", "Keras ResNet-50 v0.2 (old file) without top"},
    {"2cb95161c43110f7111970584f804107", "Keras ResNet-50 (new file)"},
    {"4d473c1dd8becc155b73f8504c6f6626", "Keras ResNet-50 (new file) without top"},
    {"f1aeb4b969a6efcfb50fad2f0c20cfc5", "Keras ResNet-101"},
    {"88cf7a10940856eca736dc7b7e228a21", "Keras ResNet-101 without top"},
    {"100835be76be38e30d865e96f2aaae62", "Keras ResNet-152"},
    {"ee4c566cf9a93f14d82f913c2dc6dd0c", "Keras ResNet-152 without top"},
    {"9d60b8095a5708f2dcce2bca79d332c7", "Keras DenseNet-121"},
    {"30ee3e1110167f948a6b9946edeeb738", "Keras DenseNet-121 without top"},
    {"d699b8f76981ab1b30698df4c175e90b", "Keras DenseNet-169"},
    {"b8c4d4c20dd625c148057b9ff1c1176b", "Keras DenseNet-169 without top"},
    {"1ceb130c1ea1b78c3bf6114dbdfd8807", "Keras DenseNet-201"},
    {"c13680b51ded0fb44dff2d8f86ac8bb1", "Keras DenseNet-201 without top"},
    {"64373286793e3c8b2b4e3219cbf3544b", "Keras VGG-16"},
    {"6d6bbae143d832006294945121d1f1fc", "Keras VGG-16 without top"},
    {"cbe5617147190e668d6c5d5026f83318", "Keras VGG-19"},
    {"253f8cb515780f3b799900260a226db6", "Keras VGG-19 without top"},
};

constexpr std::array<std::uint8_t, 4> kHdf5Start = {0x89, 'H', 'D', 'F'};

}  // namespace

std::string published_name(std::span<const std::uint8_t> bytes, const std::string& sha256) {
  for (const Published& file : kBySha256) {
    if (sha256.starts_with(file.hash)) return std::string(file.name);
  }
  if (bytes.size() < kHdf5Start.size() || !std::equal(kHdf5Start.begin(), kHdf5Start.end(), bytes.begin())) return "";
  const std::string md5 = md5_hex(bytes);
  for (const Published& file : kByMd5) {
    if (md5 == file.hash) return std::string(file.name);
  }
  return "";
}

}  // namespace graft
