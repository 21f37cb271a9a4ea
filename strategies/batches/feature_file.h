// Features that stay on disk and serve other runs (--feature-cache DIR): of the same images through the same frozen
// weights. A file is named by a hash of all that its values depend on, so a file that is found fits, and none is ever
// stale. Files are not removed by anyone but the user.
#pragma once

#include "data/loader.h"
#include "models/network.h"

namespace graft {

struct FeatureKeyInput {
  const Network& network;
  const Dataset& dataset;
  const Transform& transform;
  std::span<const std::int64_t> samples;  // in the order in which their features are computed
  std::int64_t batch = 1;                 // images grouped otherwise may give other last bits
  int parts = 0;                          // of the prefix
  std::string digest;                     // of its values (FrozenProof::digest)
  int threads = 1;                        // that decode
};
/// 64 hexadecimal digits: SHA-256 of the above, of program, device and every sample's decoded pixels. Decodes all
/// images.
std::string feature_key(const FeatureKeyInput& input);

/// Rows of equal size: a header of 64 bytes ("graft features 1", rows, C, H, W, bytes per value, Fletcher-32 of the
/// rows; little-endian int64), then the rows, NHWC.
struct FeatureRows {
  Shape shape;  // n: rows
  std::int64_t value_bytes = 4;
  std::span<const std::byte> bytes;
};
/// Whole or not at all. Errors: the folder cannot be written, disk full.
void write_feature_file(const std::filesystem::path& path, const FeatureRows& rows);
/// `bytes` of the whole file -> its rows. Errors: not such a file, cut short, a checksum that differs.
FeatureRows parse_feature_file(std::span<const std::uint8_t> bytes, const std::string& name);

}  // namespace graft
