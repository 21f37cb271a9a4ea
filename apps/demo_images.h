// The labelled images that `graft demo` draws: patterns in two colours under uneven light and noise, at any angle,
// scale and place. The source task is large; the target task asks for other patterns and has few images, so that
// features learned on the first help on the second. Everything follows from the seed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/image.h"

namespace graft {

enum class DemoTask : std::uint32_t { source = 0, target = 1 };

/// Class names of a task, in byte order.
const std::vector<std::string>& demo_classes(DemoTask task);

struct DemoImage {
  DemoTask task = DemoTask::source;
  std::int64_t label = 0;   // index into demo_classes(task)
  std::int64_t number = 0;  // which image of the class; no two are alike
  std::uint64_t seed = 0;
};

/// size x size pixels. Errors: label outside the task's classes.
Image draw_demo_image(const DemoImage& image, std::int64_t size);

/// Images per class and split.
struct DemoCounts {
  std::int64_t train = 0, val = 0, test = 0;
};

/// Writes folder/{train,val,test}/<class>/NNN.png; splits share no image, and empty splits get no folder.
/// Errors: the folder cannot be written.
void write_demo_set(const std::filesystem::path& folder, DemoTask task, const DemoCounts& counts, std::int64_t size,
                    std::uint64_t seed);

}  // namespace graft
