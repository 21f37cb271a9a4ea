// Test images that a report shows, with where the network looked (Grad-CAM): errors it was surest of, and answers as
// sure as its usual right ones. Choosing them needs predictions alone; making the pictures needs the images and
// best.h5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/report/report_numbers.h"
#include "strategies/progress.h"
#include "tensor/context.h"

namespace graft {

/// One test image that the best strategy's first seed answered. Of several labels per image the answer that was wrong
/// and surest, or, where all are right, the surest of the classes that it has.
struct Example {
  std::size_t image = 0;  // index into the group's test images
  std::int64_t label = 0, predicted = 0;
  double probability = 0;  // with which the answer was given
  bool is_error = false;
  bool is_missed = false;  // of several labels per image: `predicted` is not what was answered but what was missed
};

/// Errors with the highest probability first, then right answers whose probability is nearest the median of the right
/// ones, of different classes as far as possible. At most `errors` and `hits` of them. Empty without a best strategy.
std::vector<Example> choose_examples(const ReportGroup& group, std::size_t errors, std::size_t hits);

struct ExamplePicture {
  Example example;
  std::string input, overlay;  // data URIs
};

/// The pictures of one group, or why there are none.
struct ExampleSheet {
  std::string strategy;
  std::int64_t seed = 0;
  std::vector<ExamplePicture> pictures;
  std::string why_none;  // a clause: "best.h5 is gone"
};

/// `bytes` is what the data URIs of all groups may take together; each group gets the same share.
/// Never fails: what cannot be made is said in why_none.
std::vector<ExampleSheet> example_sheets(Context& context, const StudyReport& report, std::int64_t bytes,
                                         ProgressSink& progress);

/// "data:image/jpeg;base64,…".
std::string jpeg_uri(const Image& image);

}  // namespace graft
