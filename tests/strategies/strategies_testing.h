// What the tests of strategies/ share: drawn images in a folder that vanishes, a small pre-trained stand-in, a progress
// sink that remembers, and runs in a few lines. DenseNet-121 at 32 px: a real network whose files are small.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "data/csv.h"
#include "models/initialise.h"
#include "models/network_io.h"
#include "strategies/training/train.h"
#include "tests/data/data_testing.h"
#include "tests/shared_model.h"

namespace graft::testing {

/// Remembers what it was told; `on_advance` may raise a stop flag, `on_note` do what another program would.
class RecordingSink : public ProgressSink {
 public:
  void note(std::string_view line) override {
    notes += std::string(line) + "\n";
    if (on_note) on_note(line);
  }
  void advance(const PassProgress& p) override {
    if (on_advance) on_advance(p);
  }
  void epoch(const EpochReport& report) override { epochs.push_back(report); }

  std::string notes;
  std::vector<EpochReport> epochs;
  std::function<void(const PassProgress&)> on_advance;
  std::function<void(std::string_view)> on_note;
};

/// A 32 x 32 image of noise around the colour of its class.
inline Image drawn_image(int label, std::uint64_t number) {
  Random random({.seed = 7, .stream = RandomStream::drawing, .epoch = std::uint32_t(label), .index = number});
  Image image = Image::blank(32, 32);
  for (std::size_t i = 0; i < image.rgb.size(); ++i)
    image.rgb[i] = std::uint8_t((int(i % 3) == label % 3 ? 130 : 100) + random.below(60));
  return image;
}

struct Counts {
  int train = 6, val = 3, test = 3;  // per class; class c gets c more training images
};

/// train/, val/, test/ of classes "a", "b", …
inline void draw_images(const std::filesystem::path& folder, int classes = 2, const Counts& counts = {}) {
  const auto draw = [&](const char* split, int label, int count, std::uint64_t first) {
    for (int i = 0; i < count; ++i)
      write_atomically(folder / split / std::string(1, char('a' + label)) / (std::to_string(i) + ".png"),
                       encode_png(drawn_image(label, first + std::uint64_t(i))));
  };
  for (int c = 0; c < classes; ++c) {
    draw("train", c, counts.train + c, 0);
    draw("val", c, counts.val, 100);
    draw("test", c, counts.test, 200);
  }
}

/// A folder with images, and a model file: the one that ctest had made for all tests (tests/shared_model.h), or its
/// own.
class Workshop {
 public:
  static const Workshop& get() {
    static const Workshop workshop;
    return workshop;
  }
  std::filesystem::path images() const { return folder_ / "images"; }
  std::filesystem::path model() const { return model_; }

 private:
  Workshop() {
    draw_images(images());
    model_ = shared_model().value_or(folder_ / "model.h5");
    if (!std::filesystem::exists(model_)) make_model();
  }
  void make_model() const {
    Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
    ModelInfo info;
    info.architecture = "densenet121";
    info.num_classes = 5;
    info.input_size = info.resize = 32;
    const auto network = make_network(context, info);
    initialise_from_scratch(*network, 3);
    save_network(model_, *network);
  }
  TemporaryFolder folder_;
  std::filesystem::path model_;
};

/// At 32 px, two classes; its weights are zero.
inline std::unique_ptr<Network> small_network(Context& context, const std::string& architecture) {
  ModelInfo info;
  info.architecture = architecture;
  info.num_classes = 2;
  info.input_size = info.resize = 32;
  return make_network(context, info);
}

/// Images without content, for what depends on their number and size alone.
class BlankImages final : public ImageSource {
 public:
  Image load(std::int64_t, ImageInfo*) const override { return Image::blank(64, 64); }
};

/// Settings of a short run on the workshop's images, from its model.
inline TrainSettings short_run(const std::filesystem::path& output, const std::string& strategy = "linear-probe") {
  TrainSettings s;
  s.data = Workshop::get().images().string();
  s.weights = Workshop::get().model().string();
  s.output = output.string();
  s.strategy = strategy;
  s.epochs = 2;
  s.batch = 4;
  s.lr = 0.01;
  s.patience = 0;
  s.threads = 2;
  return s;
}

struct Ran {
  RunResult result;
  RecordingSink sink;
};

inline Ran run(const TrainSettings& settings, DeviceKind device = DeviceKind::cpu) {
  Context context(make_backend({device}, {.threads = 2}));
  Ran ran;
  ran.result = train(
      context, settings,
      {.config_toml = "[train]\nlr = " + std::to_string(settings.lr) + "\n", .command_line = "graft train"}, ran.sink);
  return ran;
}

/// The same, stopped when `stops` says so.
inline RunResult run_until(const TrainSettings& settings, const std::function<bool(const PassProgress&)>& stops) {
  std::atomic<bool> stop = false;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  RecordingSink sink;
  sink.on_advance = [&](const PassProgress& p) { stop = stop || stops(p); };
  const RunCall call{.config_toml = "[train]\nlr = " + std::to_string(settings.lr) + "\n", .stop = &stop};
  return train(context, settings, call, sink);
}

inline CsvTable csv(const std::filesystem::path& path) { return parse_csv(read_text(path), path.string()); }

inline std::vector<double> column(const CsvTable& table, std::string_view name) {
  std::vector<double> values;
  for (const auto& row : table.rows) values.push_back(std::stod(row[table.column(name).value()]));
  return values;
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// Names of tensors whose values differ between two model files.
inline std::vector<std::string> differing_tensors(const std::filesystem::path& a, const std::filesystem::path& b) {
  const WeightTable first = read_model_file(a).weights, second = read_model_file(b).weights;
  std::vector<std::string> names;
  for (const WeightTensor& t : first.tensors()) {
    const WeightTensor* other = second.find(t.name);
    if (!other || other->values != t.values || other->exact != t.exact) names.push_back(t.name);
  }
  return names;
}

}  // namespace graft::testing
