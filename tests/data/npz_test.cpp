#include "data/npz.h"

#include <zip.h>

#include "data/dataset.h"
#include "data_testing.h"

namespace graft {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::expect_names;
using testing::TemporaryFolder;

/// A .npy file of format version `version`.
std::string npy(const std::string& type, const std::string& shape, const std::string& data, int version = 1,
                const std::string& order = "False") {
  std::string header = "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) file += static_cast<char>(header.size() >> (8 * i));
  return file + header + data;
}

struct Entry {
  std::string name, contents;
  bool is_deflated = false;
};

std::filesystem::path write_zip(const std::filesystem::path& path, const std::vector<Entry>& entries) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  for (const Entry& entry : entries) {
    zip_source_t* source = zip_source_buffer(archive, entry.contents.data(), entry.contents.size(), 0);
    const zip_int64_t at = zip_file_add(archive, entry.name.c_str(), source, ZIP_FL_ENC_UTF_8);
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(at), entry.is_deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE,
                             0);
  }
  EXPECT_EQ(zip_close(archive), 0);
  return path;
}

TEST(Npy, ReadsTypesShapesAndVersions) {
  for (const int version : {1, 2, 3}) {
    const std::string file = npy("<i2", "(2, 3)", std::string("\1\0\2\0\3\0\4\0\5\0\xff\xff", 12), version);
    const NpyArray array = parse_npy(bytes_of(file), "a");
    EXPECT_EQ(array.shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(array.integers(), (std::vector<std::int64_t>{1, 2, 3, 4, 5, -1}));
  }
  EXPECT_TRUE(parse_npy(bytes_of(npy("|u1", "()", "x")), "a").shape.empty());
  EXPECT_EQ(parse_npy(bytes_of(npy("|u1", "(3,)", "\1\2\xff")), "a").integers(),
            (std::vector<std::int64_t>{1, 2, 255}));
  EXPECT_EQ(parse_npy(bytes_of(npy("|u1", "(0, 4)", "")), "a").size(), 0);
}

TEST(Npy, RefusesWhatItCannotTrust) {
  const auto refusal = [](const std::string& file) { return error_of([&] { parse_npy(bytes_of(file), "x.npz:a"); }); };
  expect_names(refusal("not an array at all"), {"x.npz:a", "not a NumPy"});
  expect_names(refusal(npy("|O", "(1,)", "abc")), {"unpickled"});
  expect_names(refusal(npy("|u1", "(2,2)", "abcd", 1, "True")), {"Fortran"});
  expect_names(refusal(npy("|u1", "(5,)", "abcd")), {"4 bytes"});
  expect_names(refusal(npy("|u1", "(4294967296, 4294967296)", "abcd")), {"4 bytes"});
  expect_names(refusal(npy("|u1", "(4,)", "abcd", 9)), {"version 9"});
  expect_names(refusal(npy(">i4", "(1,)", "abcd")), {"big-endian"});
  expect_names(refusal(npy("|u1", "(4,)", "").substr(0, 20)), {"truncated"});
  expect_names(refusal(npy("|u1", "(4", "abcd")), {"shape"});
  expect_names(error_of([] { parse_npy(bytes_of(npy("<f4", "(1,)", "abcd")), "a").integers(); }), {"<f4"});
}

TEST(Npz, StoredAndDeflatedEntries) {
  const TemporaryFolder folder;
  const std::string data(1000, 'd');
  const auto path = write_zip(folder / "a.npz", {{"stored.npy", npy("|u1", "(1000,)", data), false},
                                                 {"deflated.npy", npy("|u1", "(1000,)", data), true}});
  EXPECT_EQ(npz_names(path), (std::vector<std::string>{"stored", "deflated"}));
  EXPECT_EQ(read_npz(path, "stored").bytes, std::vector<std::uint8_t>(1000, 'd'));
  EXPECT_EQ(read_npz(path, "deflated").bytes, std::vector<std::uint8_t>(1000, 'd'));
  expect_names(error_of([&] { read_npz(path, "other"); }), {"a.npz:other", "no such"});
}

TEST(Npz, DamageIsFound) {
  const TemporaryFolder folder;
  const auto path = write_zip(folder / "a.npz", {{"x.npy", npy("|u1", "(1000,)", std::string(1000, 'd')), false}});
  std::string bytes = read_text(path);
  bytes[bytes.find("dddd") + 10] = 'e';
  expect_names(error_of([&] { read_npz(folder.write("b.npz", bytes), "x"); }), {"b.npz:x", "damaged"});
  expect_names(error_of([&] { read_npz(folder.write("c.npz", bytes.substr(0, 600)), "x"); }), {"c.npz"});
}

/// Grey or RGB images of 2x2 pixels whose values count up, and labels.
std::vector<Entry> medmnist(const std::string& part, const std::string& labels, bool is_rgb) {
  const std::size_t count = labels.size(), pixels = count * 4 * (is_rgb ? 3 : 1);
  std::string data;
  for (std::size_t i = 0; i < pixels; ++i) data += static_cast<char>(i);
  return {
      {part + "_images.npy", npy("|u1", "(" + std::to_string(count) + ", 2, 2" + (is_rgb ? ", 3)" : ")"), data), true},
      {part + "_labels.npy", npy("|u1", "(" + std::to_string(count) + ", 1)", labels), false}};
}

std::vector<Entry> joined(std::vector<Entry> a, const std::vector<Entry>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(MedMnist, GreyAndColourImagesWithTheirSplits) {
  const TemporaryFolder folder;
  for (const bool is_rgb : {false, true}) {
    const auto path = write_zip(folder / "m.npz",
                                joined(joined(medmnist("train", {0, 2, 1, 2}, is_rgb), medmnist("val", {1, 0}, is_rgb)),
                                       medmnist("test", {2}, is_rgb)));
    const Dataset data = Dataset::open({.path = path});
    EXPECT_EQ(data.class_names(), (std::vector<std::string>{"0", "1", "2"}));
    EXPECT_EQ(data.counts(Split::train), (std::vector<std::int64_t>{1, 1, 2}));
    EXPECT_EQ(data.counts(Split::val), (std::vector<std::int64_t>{1, 1, 0}));
    EXPECT_EQ(data.counts(Split::test), (std::vector<std::int64_t>{0, 0, 1}));
    EXPECT_EQ(data.samples()[5].path, "val/1");
    const Image image = data.load(5);  // second of val
    ASSERT_EQ(image.rgb.size(), 12U);
    for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(image.rgb[i], is_rgb ? 12 + i : 4 + i / 3);
  }
}

TEST(MedMnist, RowsOfLabels) {
  const TemporaryFolder folder;
  const auto of = [](const char* split, const std::string& labels, const char* shape) {
    std::vector<Entry> entries = medmnist(split, std::string(labels.size() / 3, 0), false);
    entries[1].contents = npy("|u1", shape, labels);
    return entries;
  };
  const auto train = of("train", std::string("\1\0\0\0\0\0\1\1\0\0\0\1", 12), "(4, 3)");
  const auto test = of("test", std::string("\1\1\0", 3), "(1, 3)");
  const Dataset data = Dataset::open({.path = write_zip(folder / "m.npz", joined(train, test)), .val_fraction = 0});
  EXPECT_TRUE(data.is_multi_label());
  EXPECT_TRUE(has_several_labels(folder / "m.npz"));
  EXPECT_FALSE(has_several_labels(write_zip(folder / "single.npz", medmnist("train", {0, 1}, false))));
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_EQ(data.counts(Split::train), (std::vector<std::int64_t>{2, 1, 1}));
  EXPECT_EQ(data.counts(Split::test), (std::vector<std::int64_t>{1, 1, 0}));
  EXPECT_EQ(data.label_sets().text(data.samples()[1].label, data.class_names()), "");
  EXPECT_EQ(data.samples()[4].label, data.samples()[2].label);
  EXPECT_EQ(data.load(4).width, 2);
  const auto other = write_zip(folder / "other.npz", joined(train, medmnist("test", {1}, false)));
  expect_names(error_of([&] { Dataset::open({.path = other}); }), {"test_labels", "1 labels per image", "has 3"});
}

TEST(MedMnist, WithoutValidationSomeTrainingImagesAreHeldOut) {
  const TemporaryFolder folder;
  const auto path = write_zip(folder / "m.npz", medmnist("train", std::string(10, 0) + std::string(10, 1), false));
  const Dataset data = Dataset::open({.path = path, .val_fraction = 0.3});
  EXPECT_EQ(data.counts(Split::val), (std::vector<std::int64_t>{3, 3}));
}

TEST(MedMnist, RefusesOtherLayouts) {
  const TemporaryFolder folder;
  const auto open = [&](const std::vector<Entry>& entries) {
    const auto path = write_zip(folder / "m.npz", entries);
    return error_of([&] { Dataset::open({.path = path}); });
  };
  const auto images = medmnist("train", {0, 1}, false).front();
  expect_names(open({images, {"train_labels.npy", npy("|u1", "(2, 2)", std::string("\1\0\2\1", 4))}}),
               {"train/1 has a 2 among its 2 labels"});
  expect_names(open({images, {"train_labels.npy", npy("|u1", "(2, 0)", "")}}), {"one label, or a row"});
  expect_names(open({images, {"train_labels.npy", npy("|u1", "(3, 1)", std::string(3, 0))}}), {"2 images"});
  expect_names(open({images}), {"train_labels"});
  expect_names(open({{"x.npy", npy("|u1", "(1,)", "a")}}), {"train_images"});
  expect_names(open({{"train_images.npy", npy("<f4", "(1, 1, 1)", "abcd")}}), {"8-bit"});
  expect_names(open(medmnist("train", {0, 0}, false)), {"only one class"});
  expect_names(open(medmnist("train", {0, 2}, false)), {"'1'", "empty"});
}

TEST(MedMnist, RealFile) {
  const auto path = testing::real_data() / "pneumoniamnist_balanced_28px.npz";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no real data at " << path;
  const Dataset data = Dataset::open({.path = path});
  EXPECT_EQ(data.indices(Split::train).size(), 2428U);
  EXPECT_EQ(data.indices(Split::val).size(), 270U);
  EXPECT_EQ(data.indices(Split::test).size(), 468U);
  EXPECT_EQ(data.load(3000).width, 28);
}

}  // namespace
}  // namespace graft
