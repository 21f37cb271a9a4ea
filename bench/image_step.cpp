// Reading JPEG files into a network's input as evaluation does, timed on demand, by one thread: compare_torch.py
// alternates this program with PyTorch. Reads a number of images per line from standard input and answers each line
// with the mean seconds of an image, as JSON; the folder's files are taken in turn.
//     graft_image_step --data FOLDER [--size 224]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "data/kept_memory.h"
#include "data/loader.h"

namespace {

using namespace graft;

struct ImageJob {
  std::string folder;
  std::int64_t size = 224;
};

std::vector<std::filesystem::path> jpeg_files(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (std::string type = entry.path().extension().string(); entry.is_regular_file()) {
      std::ranges::transform(type, type.begin(), [](unsigned char c) { return char(std::tolower(c)); });
      if (type == ".jpg" || type == ".jpeg") paths.push_back(entry.path());
    }
  if (paths.empty()) throw Error(fmt::format("no JPEG files in {}", folder));
  std::ranges::sort(paths);
  return paths;
}

void run(const ImageJob& job) {
  const std::vector<std::filesystem::path> paths = jpeg_files(job.folder);
  const Transform transform{.resize = job.size * 256 / 224, .crop = job.size};
  fmt::print("{{\"name\": \"graft\"}}\n");
  std::fflush(stdout);
  std::size_t next = 1;  // PyTorch's side has tried the first
  for (std::string line; std::getline(std::cin, line);) {
    const int images = std::max(1, std::stoi(line));
    const auto start = std::chrono::steady_clock::now();
    for (int n = 0; n < images; ++n) prepare(decode_image(paths[next++ % paths.size()]), transform);
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{{\"seconds\": [{:.9f}]}}\n", elapsed / images);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  ImageJob job;
  CLI::App app("Times reading JPEG files into a network's input: images per line on standard input");
  app.add_option("--data", job.folder)->required();
  app.add_option("--size", job.size)->check(CLI::Range(1, 4096));
  CLI11_PARSE(app, argc, argv);
  keep_freed_memory();
  try {
    run(job);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
