#include "data/dataset.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "data/inspect.h"
#include "data_testing.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using testing::error_of;
using testing::expect_names;
using testing::reference_folder;
using testing::TemporaryFolder;

std::vector<std::string> paths(const Dataset& data) {
  std::vector<std::string> result;
  for (const Sample& sample : data.samples()) result.push_back(sample.path);
  return result;
}

std::string open_error(const DatasetSpec& spec) {
  return error_of([&] { Dataset::open(spec); });
}

/// train/{b,a,C} with 3, 2, 2 images, test with one of each.
void write_folders(const TemporaryFolder& folder) {
  int seed = 0;
  for (const char* name : {"train/b/2.png", "train/b/10.png", "train/b/sub/1.png", "train/a/y.png", "train/a/x.png",
                           "train/C/p.png", "train/C/q.png", "test/a/t.png", "test/b/t.png", "test/C/t.png"}) {
    folder.write_image(name, ++seed);
  }
  folder.write("train/a/notes.txt", "not an image");
  folder.write("train/a/.hidden.png", "not an image");
}

TEST(Dataset, OpeningEndsWhenNobodyWaitsForIt) {
  const TemporaryFolder folder;
  write_folders(folder);
  std::atomic<bool> stop = false;
  DatasetSpec spec{.path = folder.path(), .val_fraction = 0, .stop = &stop};
  for (const bool finds_copies : {false, true}) {
    spec.finds_copies = finds_copies;
    stop = false;
    EXPECT_EQ(Dataset::open(spec).size(), 10);
    stop = true;
    spec.skip_bad = true;  // what is not read is not damaged
    try {
      Dataset::open(spec);
      ADD_FAILURE() << "was not stopped";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "data: opening was stopped");
    }
  }
}

TEST(Dataset, WhatWasDecodedWhileOpeningIsGivenAwayOnce) {
  const TemporaryFolder folder;
  write_folders(folder);
  const Dataset plain = Dataset::open({.path = folder.path()});
  std::vector<Image> images;
  for (std::int64_t i = 0; i < plain.size(); ++i) images.push_back(plain.load(i));
  const std::int64_t one = images[0].bytes();
  for (const bool finds_copies : {false, true})
    for (const std::int64_t kept : {std::int64_t{3}, plain.size() - std::ssize(plain.indices(Split::test))}) {
      const Dataset data = Dataset::open({.path = folder.path(),
                                          .finds_copies = finds_copies,
                                          .threads = 1,
                                          .kept_bytes = (kept == 3 ? 3 : plain.size()) * one});
      const fs::path away = folder.path().string() + "-away";
      fs::rename(folder.path(), away);  // only what is in memory can be loaded now
      std::int64_t loaded = 0;
      for (std::int64_t i = 0; i < data.size(); ++i) {
        ImageInfo info;
        Image image;
        try {
          image = data.load(i, &info);
        } catch (const Error&) {
          continue;
        }
        EXPECT_EQ(image, images[std::size_t(i)]);
        EXPECT_EQ(info.format, "PNG");
        ++loaded;
      }
      EXPECT_EQ(loaded, kept);  // the first three are training images
      EXPECT_THROW(data.load(0), Error);
      fs::rename(away, folder.path());
      EXPECT_EQ(data.load(0), images[0]);  // from its file
    }
}

TEST(Dataset, FoldersAreListedInByteOrder) {
  const TemporaryFolder folder;
  write_folders(folder);
  const Dataset data = Dataset::open({.path = folder.path(), .val_fraction = 0.0});
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"C", "a", "b"}));
  EXPECT_EQ(paths(data), (std::vector<std::string>{"train/C/p.png", "train/C/q.png", "train/a/x.png", "train/a/y.png",
                                                   "train/b/10.png", "train/b/2.png", "train/b/sub/1.png",
                                                   "test/C/t.png", "test/a/t.png", "test/b/t.png"}));
  EXPECT_EQ(data.counts(Split::train), (std::vector<std::int64_t>{2, 2, 3}));
  EXPECT_EQ(data.counts(Split::test), (std::vector<std::int64_t>{1, 1, 1}));
  EXPECT_EQ(data.load(4), decode_image(folder / "train/b/10.png"));
}

TEST(Dataset, ValidationIsTakenFromTrainingWhenThereIsNone) {
  const TemporaryFolder folder;
  for (int i = 0; i < 20; ++i) {
    folder.write_image("train/" + std::string(i % 2 ? "a/" : "b/") + std::to_string(i) + ".png", i);
    folder.write_image("test/" + std::string(i % 2 ? "a/" : "b/") + std::to_string(i) + ".png", i + 100);
  }
  const Dataset data = Dataset::open({.path = folder.path(), .val_fraction = 0.3, .seed = 5});
  EXPECT_EQ(data.counts(Split::train), (std::vector<std::int64_t>{7, 7}));
  EXPECT_EQ(data.counts(Split::val), (std::vector<std::int64_t>{3, 3}));
  EXPECT_EQ(data.counts(Split::test), (std::vector<std::int64_t>{10, 10}));
  const Dataset other = Dataset::open({.path = folder.path(), .val_fraction = 0.3, .seed = 6});
  EXPECT_NE(data.indices(Split::val), other.indices(Split::val));
}

TEST(Dataset, AFlatFolderIsSplitThreeWays) {
  const TemporaryFolder folder;
  for (int i = 0; i < 60; ++i) folder.write_image("c" + std::to_string(i % 3) + "/" + std::to_string(i) + ".png", i);
  const DatasetSpec spec{.path = folder.path(), .val_fraction = 0.25, .test_fraction = 0.2};
  const Dataset data = Dataset::open(spec);
  EXPECT_EQ(data.counts(Split::test), (std::vector<std::int64_t>{4, 4, 4}));
  EXPECT_EQ(data.counts(Split::val), (std::vector<std::int64_t>{4, 4, 4}));
  EXPECT_EQ(data.counts(Split::train), (std::vector<std::int64_t>{12, 12, 12}));
  EXPECT_EQ(data.split_csv(), Dataset::open(spec).split_csv());
}

TEST(Dataset, CsvKeepsItsRowsAndItsSplits) {
  const TemporaryFolder folder;
  for (int i = 0; i < 6; ++i) folder.write_image("img/" + std::to_string(i) + ".png", i);
  const auto csv =
      folder.write("list.csv",
                   "path,label,split,patient\nimg/3.png,10,train,p1\nimg/0.png,9,test,\nimg/1.png,9,train,p2\n"
                   "img/5.png,10,val,p3\nimg/2.png,9,train,\nimg/4.png,10,train,p1\n");
  const Dataset data = Dataset::open({.path = csv});
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"9", "10"})) << "integers sort by value";
  EXPECT_EQ(paths(data)[0], "img/3.png");
  EXPECT_EQ(data.samples()[0].label, 1);
  EXPECT_EQ(data.samples()[5].group, "p1");
  EXPECT_EQ(data.indices(Split::train), (std::vector<std::int64_t>{0, 2, 4, 5}));
  EXPECT_EQ(data.load(1), decode_image(folder / "img/0.png"));
  EXPECT_EQ(data.split_csv().substr(0, 50), "path,label,split,group\nimg/3.png,10,train,p1\nimg/0");
}

TEST(Dataset, CsvGroupsStayTogether) {
  const TemporaryFolder folder;
  std::string csv = "label,path,group\n";
  for (int i = 0; i < 40; ++i) {
    folder.write_image(std::to_string(i) + ".png", i);
    csv += fmt::format("{},{}.png,{}\n", i % 2 ? "yes" : "no", i, i < 30 ? "g" + std::to_string(i / 5) : "");
  }
  const Dataset data = Dataset::open({.path = folder.write("list.csv", csv)});
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"no", "yes"}));
  std::map<std::string, std::set<Split>> seen;
  for (const Sample& sample : data.samples()) {
    if (!sample.group.empty()) seen[sample.group].insert(sample.split);
  }
  EXPECT_EQ(seen.size(), 6U);
  for (const auto& [group, in] : seen) EXPECT_EQ(in.size(), 1U) << group;
  for (const Split split : kSplits) EXPECT_FALSE(data.indices(split).empty());
}

TEST(Dataset, CsvMistakesAreNamed) {
  const TemporaryFolder folder;
  folder.write_image("a.png", 1);
  folder.write_image("b.png", 2);
  const auto refusal = [&](const std::string& text) { return open_error({.path = folder.write("list.csv", text)}); };
  expect_names(refusal("file,label\na.png,x\n"), {"list.csv", "'path'"});
  expect_names(refusal("path,class\na.png,x\n"), {"'label'"});
  expect_names(refusal("path,label\n"), {"no images"});
  expect_names(refusal("path,label,split\na.png,x,train\nb.png,y,holdout\n"),
               {"line 3", "holdout", "train, val or test"});
  expect_names(refusal("path,label\na.png,x\n,y\n"), {"line 3", "path is empty"});
  expect_names(refusal("path,label\na.png,\n"), {"line 2", "label is empty"});
  expect_names(refusal("path,label\na.png,x\ngone.png,y\n"), {"gone.png", "No such file"});
  expect_names(refusal("path,label,split\na.png,x,train\nb.png,y,test\n"), {"'y'", "test", "none in train"});
  expect_names(refusal("path,label\na.png,x\nb.png,x\n"), {"only one class", "'x'"});
}

TEST(Dataset, FolderMistakesAreNamed) {
  const TemporaryFolder folder;
  expect_names(open_error({.path = folder / "gone"}), {"gone", "does not exist"});
  expect_names(open_error({.path = folder.path()}), {"no class folders"});
  expect_names(open_error({.path = folder.write("list.xlsx", "x")}), {".xlsx", ".csv"});
  std::filesystem::remove(folder / "list.xlsx");

  folder.write_image("train/a/1.png", 1);
  expect_names(open_error({.path = folder.path()}), {"only one class", "'a'"});
  std::filesystem::create_directories(folder / "train/b");
  expect_names(open_error({.path = folder.path()}), {"'b'", "empty"});
  folder.write_image("train/b/1.png", 2);
  folder.write_image("test/c/1.png", 3);
  expect_names(open_error({.path = folder.path()}), {"'c'", "none in train"});
  EXPECT_EQ(Dataset::open({.path = folder.path(), .for_training = false}).size(), 3);
}

TEST(Dataset, AFolderOfSetsIsNoSet) {
  const TemporaryFolder folder;
  for (int i = 0; i < 4; ++i) {
    folder.write_image("source/test/" + std::string(i % 2 ? "a/" : "b/") + std::to_string(i) + ".png", i);
    folder.write_image("other/" + std::to_string(i) + ".png", i + 10);
  }
  expect_names(open_error({.path = folder.path(), .for_training = false}),
               {"'source' holds a folder 'test'", "did you mean " + (folder / "source").string() + "?"});
  // Folders of other names within a class are part of it, and so are these where the splits are known.
  fs::rename(folder / "source/test", folder / "source/tests");
  EXPECT_EQ(Dataset::open({.path = folder.path()}).class_names(), (std::vector<std::string>{"other", "source"}));
  folder.write_image("train/x/train/1.png", 30);
  folder.write_image("train/y/1.png", 31);
  EXPECT_EQ(Dataset::open({.path = folder.path(), .val_fraction = 0.0}).size(), 2);
}

TEST(Dataset, FoldersOfSplitsMayHaveAnyUsualSpelling) {
  const TemporaryFolder folder;
  for (const char* name : {"Training/a/1.png", "Training/b/2.png", "valid/a/3.png", "valid/b/4.png", "Testing/a/5.png",
                           "Testing/b/6.png", "notes/7.png"})
    folder.write_image(name, name[std::string_view(name).size() - 5]);
  const Dataset data = Dataset::open({.path = folder.path()});
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"a", "b"}));
  for (const Split split : {Split::train, Split::val, Split::test})
    EXPECT_EQ(std::ranges::count(data.samples(), split, &Sample::split), 2) << to_string(split);
  ASSERT_EQ(data.notes().size(), 1u);
  EXPECT_NE(data.notes()[0].find("the folder notes beside Training/ is left out"), std::string::npos);
  folder.write_image("val/a/8.png", 8);
  expect_names(open_error({.path = folder.path()}), {"'val' and 'valid' name the same split"});
}

TEST(Dataset, AClassMayBeNamedLikeASplitWhereNothingTrains) {
  const TemporaryFolder folder;
  for (int i = 0; i < 4; ++i) folder.write_image((i % 2 ? "valid/" : "invalid/") + std::to_string(i) + ".png", i);
  EXPECT_EQ(Dataset::open({.path = folder.path()}).class_names(), (std::vector<std::string>{"invalid", "valid"}));
}

TEST(Dataset, ClassNamesAreUtf8) {
  const TemporaryFolder folder;
  for (const char* name : {"Bonn/1.png", "Bonn/2.png", "K\xF6ln/1.png", "K\xF6ln/2.png"})
    folder.write_image(name, name[0] + name[std::string_view(name).size() - 5]);
  expect_names(open_error({.path = folder.path(), .for_training = false}), {"ln\" is not UTF-8; rename the folder"});
  fs::rename(folder / "K\xF6ln", folder / "Köln");
  EXPECT_EQ(Dataset::open({.path = folder.path()}).class_names(), (std::vector<std::string>{"Bonn", "Köln"}));
  expect_names(open_error({.path = folder.write("list.csv", "path,label\nBonn/1.png,K\xF6ln\nBonn/2.png,x\n")}),
               {"is not UTF-8; rename the label"});
}

TEST(Dataset, SaysWhetherItDrewItsSplit) {
  const TemporaryFolder folder;
  for (int i = 0; i < 8; ++i) {
    folder.write_image("flat/" + std::string(i % 2 ? "a/" : "b/") + std::to_string(i) + ".png", i);
    folder.write_image("split/train/" + std::string(i % 2 ? "a/" : "b/") + std::to_string(i) + ".png", i);
  }
  EXPECT_TRUE(Dataset::open({.path = folder / "flat"}).is_split_drawn());
  EXPECT_FALSE(Dataset::open({.path = folder / "flat", .val_fraction = 0, .test_fraction = 0}).is_split_drawn());
  EXPECT_TRUE(Dataset::open({.path = folder / "split"}).is_split_drawn());
  EXPECT_FALSE(Dataset::open({.path = folder / "split", .needs_val = false}).is_split_drawn());
}

TEST(Dataset, WhatIsNoPartOfItIsSaid) {
  const TemporaryFolder folder;
  write_folders(folder);
  fs::remove(folder / "train/a/notes.txt");
  EXPECT_TRUE(Dataset::open({.path = folder.path()}).notes().empty());
  folder.write_image("train/stray2.png", 31);
  folder.write_image("train/stray1.png", 32);
  folder.write_image("cover.png", 33);
  const std::vector<std::string> notes = Dataset::open({.path = folder.path()}).notes();
  ASSERT_EQ(notes.size(), 2u);
  expect_names(notes[0], {"an image (such as cover.png) beside the class folders is left out"});
  expect_names(notes[1], {"train: 2 images (such as stray1.png) beside the class folders are left out"});

  folder.write("train/a/scan.HEIC", "");
  folder.write("train/b/notes", "");
  folder.write("train/b/.hidden.webp", "");
  folder.write("test/b/photo.webp", "");
  const std::vector<std::string> more = Dataset::open({.path = folder.path()}).notes();
  ASSERT_EQ(more.size(), 3u);
  expect_names(more[2],
               {"left out of its class folders, no images by their names: 3 files (1 .heic, 1 .webp, 1 without "
                "an extension)"});
  if (!has_image_extension("1.dcm")) {  // a build without DCMTK
    fs::create_directories(folder / "scans");
    folder.write("scans/1.dcm", "");
    expect_names(error_of([&] { list_images(folder / "scans"); }),
                 {"no images in this folder; this build reads no DICOM"});
    folder.write("train/dicom/1.dcm", "");
    expect_names(open_error({.path = folder.path()}), {"class 'dicom' is empty", "this build reads no DICOM"});
    fs::remove_all(folder / "train/dicom");
  }
  folder.write("train/other/1.webp", "");
  expect_names(open_error({.path = folder.path()}), {"class 'other' is empty", "has the name of an image"});
}

TEST(Dataset, WhyNothingCanBeTrainedOnIt) {
  const TemporaryFolder folder;
  write_folders(folder);
  EXPECT_EQ(Dataset::open({.path = folder.path()}).training_obstacle(), "");
  folder.write_image("test/A/t.png", 31);
  const Dataset looked_at = Dataset::open({.path = folder.path(), .for_training = false});
  expect_names(looked_at.training_obstacle(), {"class 'A' has images in test and none in train"});
  expect_names(open_error({.path = folder.path()}), {"class 'A' has images in test and none in train"});
}

TEST(Dataset, UnreadableImagesStopOrAreSkipped) {
  const TemporaryFolder folder;
  write_folders(folder);
  const std::string jpeg = read_text(reference_folder() / "jpeg_420.jpg");
  folder.write("train/b/cut.jpg", jpeg.substr(0, jpeg.size() / 2));
  folder.write("train/a/text.png", "no image");
  const std::string text = open_error({.path = folder.path(), .val_fraction = 0.0, .threads = 3});
  expect_names(text, {"2 unreadable", "train/b/cut.jpg", "train/a/text.png", "--skip-bad"});
  const Dataset data = Dataset::open({.path = folder.path(), .val_fraction = 0.0, .skip_bad = true});
  ASSERT_EQ(data.skipped().size(), 2U);
  EXPECT_EQ(data.skipped()[0].path, "train/a/text.png");
  EXPECT_EQ(data.size(), 10);
  // The samples behind the gap still mean their own files.
  for (std::int64_t i = 0; i < data.size(); ++i) {
    EXPECT_EQ(data.load(i), decode_image(folder.path() / data.samples()[static_cast<std::size_t>(i)].path));
  }
}

TEST(Dataset, ImagesToPredict) {
  const TemporaryFolder folder;
  write_folders(folder);
  EXPECT_EQ(list_images(folder / "test").size(), 3U);
  EXPECT_EQ(list_images(folder / "test/a/t.png"), (std::vector<std::filesystem::path>{folder / "test/a/t.png"}));
  expect_names(error_of([&] { list_images(folder / "gone"); }), {"gone"});
  std::filesystem::create_directories(folder / "none");
  expect_names(error_of([&] { list_images(folder / "none"); }), {"no images"});
}

TEST(Inspect, CountsSizesModesAndDuplicates) {
  const TemporaryFolder folder;
  write_folders(folder);
  // The same pixels in another format, in another split and class.
  std::filesystem::copy_file(reference_folder() / "png_rgb.png", folder / "train/a/copy.png");
  std::filesystem::copy_file(reference_folder() / "bmp_rgb.bmp", folder / "train/a/twin.bmp");
  std::filesystem::copy_file(reference_folder() / "tiff_rgb_lzw.tif", folder / "test/b/leak.tif");
  std::filesystem::copy_file(reference_folder() / "jpeg_grey.jpg", folder / "train/C/grey.jpg");
  folder.write("train/C/broken.png", "no image");
  const DatasetSpec spec{.path = folder.path(), .val_fraction = 0.0, .decodes_all = false};
  const DataReport report = inspect(Dataset::open(spec), 2);
  EXPECT_EQ(report.counts[0], (std::vector<std::int64_t>{4, 4, 3}));
  EXPECT_EQ((report.sizes.at({7, 9})), 10);
  EXPECT_EQ((report.sizes.at({53, 37})), 4);
  EXPECT_EQ(report.modes.at("JPEG grey 8-bit"), 1);
  EXPECT_EQ(report.modes.at("TIFF RGB 8-bit"), 1);
  EXPECT_EQ(report.grey_images, 1);
  ASSERT_EQ(report.unreadable.size(), 1U);
  EXPECT_EQ(report.unreadable[0].path, "train/C/broken.png");
  ASSERT_EQ(report.duplicates.size(), 1U);
  EXPECT_EQ(report.duplicates[0].samples.size(), 3U);
  EXPECT_TRUE(report.duplicates[0].crosses_splits);
  EXPECT_TRUE(report.duplicates[0].crosses_classes);
}

TEST(Inspect, RealSets) {
  const auto root = testing::real_data();
  if (!std::filesystem::exists(root / "xray_nih")) GTEST_SKIP() << "no real data at " << root;
  const Dataset xray = Dataset::open({.path = root / "xray_nih" / "manifest.csv", .threads = 2});
  EXPECT_EQ(xray.class_names(), (std::vector<std::string>{"no_finding", "pneumonia"}));
  EXPECT_EQ(xray.indices(Split::train).size() + xray.indices(Split::val).size(), 400U);
  EXPECT_EQ(xray.indices(Split::test).size(), 150U);
  const DataReport report = inspect(xray, 2);
  EXPECT_EQ((report.sizes.at({256, 256})), 550);
  EXPECT_TRUE(report.unreadable.empty());
  std::map<std::string, std::set<Split>> patients;
  for (const Sample& sample : xray.samples()) patients[sample.group].insert(sample.split);
  for (const auto& [patient, in] : patients) EXPECT_TRUE(patient.empty() || in.size() == 1) << patient;
}

}  // namespace
}  // namespace graft
