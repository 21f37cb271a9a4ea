// The layers of docs/design.md, checked on the #include lines: a link line cannot see an include that needs no symbol.
// The same checker runs on a planted tree first, so that it is known to find what it looks for.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

// What a folder may include directly; paths of arrows are followed below.
const std::map<std::string, std::set<std::string>> kArrows = {
    {"apps", {"strategies"}},
    {"strategies", {"models", "optim", "data"}},
    {"models", {"nn", "data"}},
    {"nn", {"tensor"}},
    {"optim", {"tensor"}},
    {"tensor", {"kernels"}},
    {"kernels", {}},
    {"data", {}},
};
// The only headers of kernels/ that data/ may see: data/ runs on the host and knows no tensor. They are plain C++, and
// one generator of random numbers, and one list of what happens to an image, is better than two.
const std::set<std::string> kHostHeaders = {"kernels/build_info.h",  "kernels/core.h",    "kernels/half.h",
                                            "kernels/image_input.h", "kernels/modules.h", "kernels/philox.h",
                                            "kernels/usable_cores.h"};
const std::set<std::string> kOtherFolders = {"tests", "bench", "docs", "scripts", "cmake"};

std::set<std::string> reachable(const std::string& folder) {
  std::set<std::string> seen = {folder};
  std::vector<std::string> open = {folder};
  while (!open.empty()) {
    const std::string next = open.back();
    open.pop_back();
    for (const std::string& below : kArrows.at(next)) {
      if (seen.insert(below).second) open.push_back(below);
    }
  }
  return seen;
}

bool is_source(const fs::path& path) {
  static const std::set<std::string> kSuffixes = {".h", ".cpp", ".cu", ".cuh", ".inc"};
  return kSuffixes.contains(path.extension().string());
}

bool is_public_header(const std::string& path) {
  return path.ends_with(".h") && !path.starts_with("kernels/cuda/") && !path.starts_with("kernels/cpu/");
}

/// "file:line: what is wrong" for every include that crosses the layers in the tree at `root`; empty when all is well.
std::vector<std::string> violations(const fs::path& root) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
  static const std::regex kVendor(R"re(^(cuda|cudnn|cublas|nccl|nvrtc|oneapi/|dnnl|hdf5|H5).*)re");
  std::vector<std::string> found;
  for (const auto& [folder, direct] : kArrows) {
    const std::set<std::string> allowed = reachable(folder);
    if (!fs::exists(root / folder)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      const std::string path = fs::relative(entry.path(), root).generic_string();
      std::ifstream file(entry.path());
      std::string line;
      for (int number = 1; std::getline(file, line); ++number) {
        std::smatch match;
        if (!std::regex_search(line, match, kInclude)) continue;
        const std::string header = match[2];
        const std::string target = header.substr(0, header.find('/'));
        const std::string where = path + ":" + std::to_string(number) + ": ";
        if (header.find("..") != std::string::npos) {
          found.push_back(where + "includes " + header + "; write the path from the repository root");
        } else if (target == header && match[1] == "\"") {
          found.push_back(where + "includes \"" + header + "\"; write the path from the repository root");
        } else if (kOtherFolders.contains(target)) {
          found.push_back(where + folder + " must not include " + header);
        } else if (kArrows.contains(target) && !allowed.contains(target) &&
                   !(folder == "data" && kHostHeaders.contains(header))) {
          found.push_back(where + folder + " must not include " + header);
        } else if (is_public_header(path) && std::regex_match(header, kVendor)) {
          found.push_back(where + "a public header must not include the vendor header " + header);
        }
      }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// Folders at the top of the tree that the design does not know; hidden ones, build* and install* are nobody's concern.
std::vector<std::string> unknown_folders(const fs::path& root) {
  std::vector<std::string> unknown;
  for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename().string();
    const bool ignored = name.starts_with(".") || name.starts_with("build") || name.starts_with("install");
    if (entry.is_directory() && !ignored && !kArrows.contains(name) && !kOtherFolders.contains(name)) {
      unknown.push_back(name);
    }
  }
  return unknown;
}

std::string lines(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += item + "\n";
  return text;
}

class PlantedTree : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(root_); }
  void TearDown() override { fs::remove_all(root_); }
  void plant(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::string checked() const { return lines(violations(root_)); }

  const fs::path root_ =
      fs::path(testing::TempDir()) /
      ("graft_includes_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

TEST_F(PlantedTree, ArrowsAndPathsOfArrowsPass) {
  plant("apps/train.cpp", "#include \"tensor/tensor.h\"\n#include <vector>\n#include <hdf5.h>\n");
  plant("strategies/fit.cpp", "#include \"data/loader.h\"\n#include \"kernels/core.h\"\n");
  plant("data/loader.cpp", "#include \"kernels/core.h\"\n#include \"data/loader.h\"\n");
  plant("kernels/cuda/conv.h", "#include <cudnn.h>\n");
  EXPECT_EQ(checked(), "");
}

TEST_F(PlantedTree, EveryWrongDirectionIsFound) {
  plant("data/loader.cpp", "// first line\n#include \"tensor/tensor.h\"\n");
  EXPECT_EQ(checked(), "data/loader.cpp:2: data must not include tensor/tensor.h\n");
  plant("data/loader.cpp", "#include \"kernels/backend.h\"\n");
  EXPECT_EQ(checked(), "data/loader.cpp:1: data must not include kernels/backend.h\n");
  plant("data/loader.cpp", "");
  plant("nn/linear.h", "  #  include <optim/sgd.h>\n");
  EXPECT_EQ(checked(), "nn/linear.h:1: nn must not include optim/sgd.h\n");
  plant("nn/linear.h", "");
  plant("kernels/cuda/add.cu", "#include \"tests/support/random.h\"\n");
  EXPECT_EQ(checked(), "kernels/cuda/add.cu:1: kernels must not include tests/support/random.h\n");
}

TEST_F(PlantedTree, PathsStartAtTheRootAndVendorsStayInside) {
  plant("models/resnet.cpp", "#include \"resnet.h\"\n");
  plant("models/vgg.cpp", "#include \"../nn/linear.h\"\n");
  plant("models/weights.h", "#include <hdf5.h>\n");
  EXPECT_EQ(violations(root_).size(), 3u) << checked();
}

TEST_F(PlantedTree, UnknownFoldersAreFound) {
  plant("kernels/core.h", "");
  plant("build-mine/x.h", "");
  plant("utils/x.h", "");
  EXPECT_EQ(unknown_folders(root_), std::vector<std::string>{"utils"});
}

TEST(Layers, IncludesFollowTheArrows) {
  const std::vector<std::string> found = violations(GRAFT_SOURCE_DIR);
  EXPECT_TRUE(found.empty()) << lines(found);
}

TEST(Layers, TopFoldersAreThoseOfTheDesign) {
  const std::vector<std::string> unknown = unknown_folders(GRAFT_SOURCE_DIR);
  EXPECT_TRUE(unknown.empty()) << "docs/design.md knows no folder " << lines(unknown);
}

}  // namespace
