// A file without a name: what is written is read, nothing stays in the folder, and want of space is one sentence.
#include "data/scratch_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "tests/data/data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

TEST(ScratchFile, IsReadAsItWasWrittenAndLeavesNothing) {
  TemporaryFolder folder;
  {
    ScratchFile file(folder.path(), 10000, 0);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    const std::string text = "written in two parts";
    const auto part = [&](std::size_t begin, std::size_t end) {
      return std::as_bytes(std::span(text.data() + begin, end - begin));
    };
    file.write(9000 + 7, part(7, text.size()));
    file.write(9000, part(0, 7));
    file.prefetch(9000, 20);
    ASSERT_EQ(file.bytes().size(), 10000u);
    EXPECT_EQ(std::memcmp(file.bytes().data() + 9000, text.data(), text.size()), 0);
    EXPECT_EQ(file.bytes()[8999], std::byte{0});
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(ScratchFile, SaysWhatIsMissing) {
  TemporaryFolder folder;
  const auto open = [&](std::int64_t bytes, std::int64_t spare) {
    return error_of([&] { ScratchFile(folder.path(), bytes, spare); });
  };
  EXPECT_NE(open(std::int64_t{1} << 60, 0).find("MiB free and needs 1099511627776 MiB"), std::string::npos);
  EXPECT_NE(open(1 << 20, std::int64_t{1} << 60).find("needs 1 MiB, with 1099511627776 MiB to spare"),
            std::string::npos);
  EXPECT_NE(error_of([&] { ScratchFile(folder / "missing", 100, 0); }).find("choose a writable place"),
            std::string::npos);
}

TEST(ScratchFile, ALimitOnFileSizesIsAnErrorAtOnce) {
  TemporaryFolder folder;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1 << 16;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = error_of([&] { ScratchFile(folder.path(), 1 << 20, 0); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("cannot reserve 1 MiB in " + folder.path().string()), std::string::npos) << message;
}

}  // namespace
}  // namespace graft
