#include "strategies/batches/feature_file.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>

#include "data/files.h"
#include "data/fletcher32.h"
#include "data/parallel.h"
#include "kernels/build_info.h"
#include "strategies/batches/batch_source.h"

namespace graft {
namespace {

constexpr std::string_view kMagic = "graft features 1";

struct Header {
  std::array<char, 16> magic{};
  std::int64_t rows = 0, c = 0, h = 0, w = 0, value_bytes = 0, checksum = 0;
};
static_assert(sizeof(Header) == 64);

std::span<const std::uint8_t> as_unsigned(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

std::string hash_of_text(std::string_view text) {
  return sha256_hex({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

}  // namespace

std::string feature_key(const FeatureKeyInput& in) {
  std::vector<std::string> pixels(in.samples.size());
  parallel_for(std::int64_t(in.samples.size()), in.threads, [&](std::int64_t i) {
    const Image image = in.dataset.load(in.samples[std::size_t(i)]);
    pixels[std::size_t(i)] = fmt::format("{}x{} {}\n", image.width, image.height, sha256_hex(image.rgb));
  });
  const ModelInfo& info = in.network.info();
  const Backend& device = in.network.context().backend();
  const Transform& t = in.transform;
  std::string text = fmt::format(
      "{} {}\n{} stride on {} epsilon {} head {} parts {}\n{}\n{}\nbatch {}{}\nresize {} crop {} scale {} mean {} std "
      "{} "
      "bgr {}\n",
      kMagic, build_info().version, info.architecture, info.stride_on, info.bn_epsilon, info.head, in.parts, in.digest,
      device.description(), in.batch, rows_beside(device, 1, 2) == 2 ? " each" : "", t.resize, t.crop, t.scale,
      fmt::join(t.mean, " "), fmt::join(t.std, " "), t.is_bgr);
  for (const std::string& line : pixels) text += line;
  return hash_of_text(text);
}

void write_feature_file(const std::filesystem::path& path, const FeatureRows& rows) {
  Header header{.rows = rows.shape.n,
                .c = rows.shape.c,
                .h = rows.shape.h,
                .w = rows.shape.w,
                .value_bytes = rows.value_bytes,
                .checksum = std::int64_t(fletcher32(as_unsigned(rows.bytes)))};
  std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
  AtomicFile target(path);
  std::ofstream out(target.temporary(), std::ios::binary);
  out.write(reinterpret_cast<const char*>(&header), sizeof header);
  out.write(reinterpret_cast<const char*>(rows.bytes.data()), std::streamsize(rows.bytes.size()));
  out.close();
  if (!out) throw Error("cannot write " + path.string() + "; check free space and permissions");
  target.commit();
}

FeatureRows parse_feature_file(std::span<const std::uint8_t> bytes, const std::string& name) {
  Header header;
  const auto damaged = [&](const char* what) { throw Error(name + ": " + what + "; remove the file"); };
  if (bytes.size() < sizeof header) damaged("expected a file of features, it is too short");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::string_view(header.magic.data(), header.magic.size()) != kMagic) damaged("expected a file of features");
  const auto is_size = [](std::int64_t v) { return v > 0 && v < (std::int64_t{1} << 31); };
  if (!is_size(header.rows) || !is_size(header.c) || !is_size(header.h) || !is_size(header.w) ||
      (header.value_bytes != 2 && header.value_bytes != 4 && header.value_bytes != 8))
    damaged("a size in its header makes no sense");
  const double expected =
      double(header.rows) * double(header.c) * double(header.h) * double(header.w) * double(header.value_bytes);
  const std::span<const std::uint8_t> values = bytes.subspan(sizeof header);
  if (expected != double(values.size())) damaged("its size is not what its header says");
  if (std::int64_t(fletcher32(values)) != header.checksum) damaged("its checksum is wrong");
  return {.shape = {header.rows, header.c, header.h, header.w},
          .value_bytes = header.value_bytes,
          .bytes = std::as_bytes(values)};
}

}  // namespace graft
