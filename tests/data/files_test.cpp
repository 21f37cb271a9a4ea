#include "data/files.h"

#include <fmt/format.h>

#include "data_testing.h"

namespace graft {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::expect_names;
using testing::TemporaryFolder;

std::size_t entries(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

TEST(Files, WritesWholeFilesAndReplacesThem) {
  const TemporaryFolder folder;
  write_atomically(folder / "a/b/file", "first");
  write_atomically(folder / "a/b/file", std::string(3000000, 'x') + "second");
  EXPECT_EQ(read_text(folder / "a/b/file"), std::string(3000000, 'x') + "second");
  write_atomically(folder / "a/b/file", "");
  EXPECT_TRUE(read_file(folder / "a/b/file").empty());
  EXPECT_EQ(entries(folder / "a/b"), 1U) << "temporary files are left";
}

TEST(Files, AnUncommittedFileLeavesNothing) {
  const TemporaryFolder folder;
  folder.write("file", "old");
  {
    const AtomicFile file(folder / "file");
    write_atomically(file.temporary(), "half");
  }
  EXPECT_EQ(read_text(folder / "file"), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(Files, RefusesWhatCannotBeWrittenOrRead) {
  const TemporaryFolder folder;
  folder.write("file", "text");
  expect_names(error_of([&] { write_atomically(folder / "file/below", "x"); }), {"file"});
  std::filesystem::create_directory(folder / "taken");
  expect_names(error_of([&] { write_atomically(folder / "taken", "x"); }), {"taken"});
  EXPECT_EQ(entries(folder.path()), 2U) << "a failed write leaves its temporary file";
  expect_names(error_of([&] { read_file(folder / "missing"); }), {"missing", "No such file"});
  expect_names(error_of([&] { read_file(folder.path()); }), {"folder"});
}

TEST(Files, Sha256EqualsPublishedValues) {
  // FIPS 180-4 examples, and the lengths around the padding's edges against Python's hashlib.
  EXPECT_EQ(sha256_hex(bytes_of("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex(bytes_of("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(bytes_of(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Files, Sha256DoesNotDependOnThePieces) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (const std::size_t length : {0UL, 1UL, 55UL, 56UL, 63UL, 64UL, 65UL, 119UL, 120UL, 128UL, 300UL}) {
    const auto whole = bytes_of(text).first(length);
    for (const std::size_t piece : {1UL, 13UL, 64UL}) {
      Sha256 hash;
      for (std::size_t at = 0; at < length; at += piece) hash.update(whole.subspan(at, std::min(piece, length - at)));
      std::string hex;
      for (const std::uint8_t byte : hash.finish()) hex += fmt::format("{:02x}", byte);
      EXPECT_EQ(hex, sha256_hex(whole)) << length << " bytes in pieces of " << piece;
    }
  }
  const TemporaryFolder folder;
  EXPECT_EQ(sha256_of_file(folder.write("file", text)), sha256_hex(bytes_of(text)));
}

}  // namespace
}  // namespace graft
