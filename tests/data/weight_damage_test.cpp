// Damaged weight files: every prefix of a file and every kind of flipped byte ends in a result or an Error, never in a
// crash, a hang or a huge allocation. Run under the address and undefined-behaviour sanitizers in CI.
// Flips inside Keras's files are left out: their object headers carry no checksum, and HDF5 1.10 itself reads beyond
// its buffers on some of them (H5O__attr_exists). The graft model file's headers are checksummed and are flipped here.
#include <algorithm>
#include <fstream>

#include "data/keras_h5.h"
#include "data/model_file.h"
#include "data/pth.h"
#include "data/safetensors.h"
#include "data/weight_import.h"
#include "tests/data/weight_testing.h"

/// HDF5 1.10 leaks small blocks when it gives up on a damaged file; sound files leak nothing.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace graft {
namespace {

using namespace testing_weights;

using Reader = std::function<void(const std::filesystem::path&)>;

struct Case {
  const char* file;
  Reader read;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"zip.pth", [](const auto& path) { read_pth(path); }},
      {"legacy.pth", [](const auto& path) { read_pth(path); }},
      {"wrapped.pth", [](const auto& path) { read_pth(path); }},
      {"strided.pth", [](const auto& path) { read_pth(path); }},
      {"strided_legacy.pth", [](const auto& path) { read_pth(path); }},
      {"foreign_legacy.pth", [](const auto& path) { read_pth(path); }},
      {"mixed.safetensors", [](const auto& path) { read_safetensors(path); }},
      {"keras_resnet50_old.h5", [](const auto& path) { read_keras_h5(path); }},
      {"keras_resnet50_new.h5", [](const auto& path) { read_keras_h5(path); }},
  };
  return all;
}

/// Whether reading ends in a result. An Error is the other permitted end.
bool survives(const Reader& read, const std::filesystem::path& path) {
  try {
    read(path);
    return true;
  } catch (const Error& error) {
    EXPECT_GT(std::string(error.what()).size(), 10U);
    return false;
  }
}

/// Overwrites one byte in place: rewriting whole files would wait for the disk thousands of times.
void put_byte(const std::filesystem::path& path, std::size_t at, char byte) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

std::size_t step_through(std::size_t size) { return size < 4000 ? 1 : size / 400; }

TEST(DamagedWeights, EveryTruncationIsAnError) {
  const TemporaryFolder folder;
  for (const Case& c : cases()) {
    const std::string bytes = read_bytes(fixture(c.file));
    const std::filesystem::path path = folder / c.file;
    write_bytes(path, bytes);
    for (std::size_t size = bytes.size() - 1;; size -= std::min(size, step_through(bytes.size()))) {
      std::filesystem::resize_file(path, size);
      ASSERT_FALSE(survives(c.read, path)) << c.file << " cut to " << size << " of " << bytes.size();
      if (size == 0) break;
    }
  }
}

TEST(DamagedWeights, FlippedBytesNeverCrash) {
  const TemporaryFolder folder;
  for (const Case& c : cases()) {
    if (std::string(c.file).ends_with(".h5")) continue;
    const std::string bytes = read_bytes(fixture(c.file));
    const std::filesystem::path path = folder / c.file;
    write_bytes(path, bytes);
    std::int64_t refused = 0;
    for (std::size_t at = 0; at < bytes.size(); at += step_through(bytes.size())) {
      for (const int flip : {0xff, 0x01, 0x80}) {
        put_byte(path, at, static_cast<char>(bytes[at] ^ flip));
        refused += !survives(c.read, path);
      }
      put_byte(path, at, bytes[at]);
    }
    EXPECT_GT(refused, 10) << c.file;
  }
}

// HDF5 1.10 loops for ever on these.
TEST(DamagedWeights, GlobalHeapsAreWalkedBeforeHdf5SeesThem) {
  const TemporaryFolder folder;
  const std::string bytes = read_bytes(fixture("keras_resnet50_old.h5"));
  const std::size_t heap = bytes.find("GCOL");
  ASSERT_NE(heap, std::string::npos);
  const auto refused = [&](std::size_t at, const std::string& patch) {
    std::string damaged = bytes;
    damaged.replace(heap + at, patch.size(), patch);
    write_bytes(folder / "h.h5", damaged);
    EXPECT_SAYS(error_lines_of([&] { read_keras_h5(folder / "h.h5"); }), "heap");
  };
  refused(8, std::string(8, '\0'));     // the heap's size
  refused(16, std::string(16, '\0'));   // free space of no size
  refused(24, std::string(8, '\xf0'));  // an object larger than memory
  refused(24, "\xf8" + std::string(7, '\xff'));
}

TEST(DamagedWeights, ModelFilesAreChecksummed) {
  const TemporaryFolder folder;
  ModelInfo info;
  info.architecture = "densenet121";
  info.num_classes = 2;
  WeightTable weights;
  for (const NamedShape& t : expected_tensors(info.network())) {
    const auto count = static_cast<std::size_t>(element_count(t.shape, t.name));
    weights.add({t.name, t.shape, DType::f32, std::vector<float>(count, 0.5f), {}});
  }
  const std::filesystem::path path = folder / "m.h5";
  write_model_file(path, info, weights);
  const std::string bytes = read_bytes(path);
  const auto is_read = [&](std::size_t at) {
    put_byte(path, at, static_cast<char>(bytes[at] ^ 0x10));
    const bool is_survived = survives([](const auto& file) { read_model_file(file); }, path);
    put_byte(path, at, bytes[at]);
    return is_survived;
  };
  std::uint64_t seed = 7;
  int noticed = 0;
  for (int i = 0; i < 25; ++i) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    noticed += !is_read(static_cast<std::size_t>(seed >> 20) % bytes.size());
  }
  EXPECT_GE(noticed, 24) << "all but unused space is under a checksum";
  // The front holds the superblock, object headers and the heap of the texts, whose characters have no checksum.
  for (std::size_t at = 0; at < 6000; at += 61) is_read(at);
}

}  // namespace
}  // namespace graft
