// The recorder's file: what is appended comes back, a resumed file continues, damage is named; and the series over
// blocks.
#include "data/internals.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "data/files.h"
#include "data/hdf5_file.h"
#include "tests/data/data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

InternalsHeader small_header() {
  return {.architecture = "resnet50",
          .strategy = "full",
          .record_every = 5,
          .blocks = {"stem", "fc"},
          .parameters = {{"conv1.weight", 0, 12}, {"bn1.weight", 0, 3}, {"fc.weight", 1, 8}},
          .norms = {{"bn1", 0, 3}, {"bn2", 0, 1}}};
}

/// Records of steps first, first + 5, …; every number tells its place.
InternalsRecords drawn_records(std::int64_t first, std::int64_t count) {
  InternalsRecords records;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t step = first + 5 * i;
    records.step.push_back(step), records.epoch.push_back(1 + step / 100);
    records.lr.push_back(1.0 / double(step)), records.loss.push_back(std::log(double(step) + 1));
    for (std::size_t n = 0; n < records.norms.size(); ++n)
      for (int p = 0; p < 3; ++p)
        records.norms[n].push_back(step % 2 == 0 && p == 1 ? kNaN : double(step) + 0.1 * double(n) + 0.01 * p);
    for (int b = 0; b < 2; ++b)
      records.mean_drift.push_back(double(step) + b), records.variance_drift.push_back(double(step) * 2 + b);
  }
  return records;
}

void expect_same(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) << i;
}

void expect_same(const InternalsRecords& a, const InternalsRecords& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.epoch, b.epoch);
  expect_same(a.lr, b.lr), expect_same(a.loss, b.loss);
  for (std::size_t n = 0; n < a.norms.size(); ++n) expect_same(a.norms[n], b.norms[n]);
  expect_same(a.mean_drift, b.mean_drift), expect_same(a.variance_drift, b.variance_drift);
}

const std::vector<double> kInitial{0.5, -0.25, 0.125, 1, 2, 3, 0.75, 4};

TEST(Internals, WhatIsAppendedComesBack) {
  const TemporaryFolder folder;
  create_internals(folder / "i.h5", small_header(), kInitial);
  EXPECT_EQ(read_internals(folder / "i.h5").records.count(), 0);
  append_internals(folder / "i.h5", drawn_records(1, 70));  // more than a chunk of rows
  append_internals(folder / "i.h5", {});
  append_internals(folder / "i.h5", drawn_records(351, 3));
  const Internals back = read_internals(folder / "i.h5");
  EXPECT_EQ(back.header, small_header());
  expect_same(back.records, drawn_records(1, 73));
}

TEST(Internals, WithoutBatchNormToo) {
  const TemporaryFolder folder;
  InternalsHeader header = small_header();
  header.architecture = "vgg19", header.norms.clear();
  create_internals(folder / "i.h5", header, {});
  InternalsRecords records = drawn_records(1, 2);
  records.mean_drift.clear(), records.variance_drift.clear();
  append_internals(folder / "i.h5", records);
  EXPECT_TRUE(resume_internals(folder / "i.h5", header, 100).empty());
  const Internals back = read_internals(folder / "i.h5");
  expect_same(back.records, records);
  for (const InternalsSeries& series : block_series(back)) EXPECT_TRUE(std::isnan(series.mean_drift.at(0)));
}

TEST(Internals, AResumedFileForgetsWhatCameAfterTheCheckpoint) {
  const TemporaryFolder folder;
  create_internals(folder / "i.h5", small_header(), kInitial);
  append_internals(folder / "i.h5", drawn_records(1, 70));
  EXPECT_EQ(resume_internals(folder / "i.h5", small_header(), 103), kInitial);
  EXPECT_EQ(read_internals(folder / "i.h5").records.step.back(), 101);
  append_internals(folder / "i.h5", drawn_records(106, 4));
  expect_same(read_internals(folder / "i.h5").records, drawn_records(1, 25));
  resume_internals(folder / "i.h5", small_header(), 0);
  EXPECT_EQ(read_internals(folder / "i.h5").records.count(), 0);

  InternalsHeader other = small_header();
  other.parameters[2].size = 9;
  EXPECT_NE(error_of([&] { resume_internals(folder / "i.h5", other, 0); }).find("--overwrite"), std::string::npos);
}

TEST(Internals, AWriterThatDiedBetweenTwoDatasetsLosesOneRecord) {
  const TemporaryFolder folder;
  create_internals(folder / "i.h5", small_header(), kInitial);
  append_internals(folder / "i.h5", drawn_records(1, 4));
  Hdf5File file = Hdf5File::open_to_append(folder / "i.h5");
  file.cut_rows("/parameters/update_norm", 3);
  file.close();
  expect_same(read_internals(folder / "i.h5").records, drawn_records(1, 3));
  resume_internals(folder / "i.h5", small_header(), 1000);
  append_internals(folder / "i.h5", drawn_records(16, 1));
  expect_same(read_internals(folder / "i.h5").records, drawn_records(1, 4));
}

TEST(Internals, AWriterKilledAtAnyMomentLeavesAWholeFile) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "i.h5";
  create_internals(file, small_header(), kInitial);
  std::int64_t records = 0;
  for (int round = 0; round < 30; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        for (std::int64_t n = records;; ++n) append_internals(file, drawn_records(1 + 5 * n, 1));
      } catch (...) {
        ::_exit(1);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20000 + 1777 * round));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it stopped by itself";
    const InternalsRecords left = read_internals(file).records;
    ASSERT_GE(left.count(), records);
    expect_same(left, drawn_records(1, left.count()));
    records = left.count() / 2;  // the checkpoint was older
    EXPECT_EQ(resume_internals(file, small_header(), 5 * records), kInitial) << round;
    expect_same(read_internals(file).records, drawn_records(1, records));
  }
}

TEST(Internals, DamageIsNamed) {
  const TemporaryFolder folder;
  create_internals(folder / "i.h5", small_header(), kInitial);
  append_internals(folder / "i.h5", drawn_records(1, 300));
  const std::vector<std::uint8_t> whole = read_file(folder / "i.h5");
  for (double share : {0.0, 0.1, 0.5, 0.9, 0.999}) {
    const auto size = std::size_t(share * double(whole.size()));
    write_atomically(folder / "cut.h5", std::span(whole).first(size));
    const std::string message = error_of([&] { read_internals(folder / "cut.h5"); });
    EXPECT_NE(message.find("cut.h5"), std::string::npos) << share << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    const std::string appending = error_of([&] { append_internals(folder / "cut.h5", drawn_records(1, 1)); });
    EXPECT_NE(appending.find("cut.h5: "), std::string::npos) << share << ": " << appending;
  }
  // A changed number is found by its checksum.
  std::vector<std::uint8_t> changed = whole;
  const double marker = 101;  // step 101's gradient norm of conv1.weight, with nothing before the point
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&marker);
  const auto at = std::search(changed.begin(), changed.end(), bytes, bytes + 8);
  ASSERT_NE(at, changed.end());
  *at ^= 1;
  write_atomically(folder / "changed.h5", std::span<const std::uint8_t>(changed));
  EXPECT_NE(error_of([&] { read_internals(folder / "changed.h5"); }).find("damaged"), std::string::npos);
  EXPECT_NE(error_of([&] { read_internals(folder / "none.h5"); }).find("no such file"), std::string::npos);
  Hdf5File::create(folder / "other.h5").close();
  EXPECT_NE(error_of([&] { read_internals(folder / "other.h5"); }).find("--record-internals"), std::string::npos);
}

TEST(Internals, BlocksJoinTheirMembers) {
  Internals internals{small_header(), drawn_records(1, 2)};  // steps 1 and 6; in step 6 bn1.weight did not train
  const std::vector<InternalsSeries> blocks = block_series(internals);
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].name, "stem");
  EXPECT_EQ(blocks[0].size, 15);
  EXPECT_EQ(blocks[1].size, 8);
  const double g = std::hypot(1.0, 1.01), w = std::hypot(1.1, 1.11), u = std::hypot(1.2, 1.21);
  EXPECT_DOUBLE_EQ(blocks[0].gradient_norm[0], g);
  EXPECT_DOUBLE_EQ(blocks[0].weight_norm[0], w);
  EXPECT_DOUBLE_EQ(blocks[0].relative_gradient_norm[0], g / w);
  EXPECT_DOUBLE_EQ(blocks[0].update_ratio[0], u / w);
  EXPECT_DOUBLE_EQ(blocks[0].anchor_distance[0], std::hypot(1.3, 1.31));
  EXPECT_DOUBLE_EQ(blocks[0].gradient_norm[1], 6.0);
  EXPECT_DOUBLE_EQ(blocks[0].mean_drift[0], (3 * 1.0 + 1 * 2.0) / 4);  // by channels
  EXPECT_DOUBLE_EQ(blocks[0].variance_drift[1], (3 * 12.0 + 1 * 13.0) / 4);
  EXPECT_TRUE(std::isnan(blocks[1].mean_drift[0]));

  const std::vector<InternalsSeries> members = member_series(internals);
  ASSERT_EQ(members.size(), 5u);
  EXPECT_EQ(members[1].name, "bn1.weight");
  EXPECT_EQ(members[1].level, "parameter");
  EXPECT_TRUE(std::isnan(members[1].relative_gradient_norm[1]));
  EXPECT_DOUBLE_EQ(members[2].update_ratio[0], 1.22 / 1.12);
  EXPECT_EQ(members[4].level, "batch_norm");
  EXPECT_DOUBLE_EQ(members[4].mean_drift[0], 2);
  EXPECT_TRUE(std::isnan(members[4].weight_norm[0]));
}

}  // namespace
}  // namespace graft
