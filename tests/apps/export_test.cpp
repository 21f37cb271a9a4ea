// `graft export` end to end: files that `graft weights import` reads back to the same values, and a graph.
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/model_file.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

json json_of(const Outcome& outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return json::parse(outcome.out, nullptr, false);
}

TEST(Export, WeightsComeBackAsTheyWere) {
  const std::string model = Workshop::get().model();
  const TemporaryFolder folder;
  const json before = json_of(graft({"weights", "inspect", model, "--json"}));
  for (const char* name : {"model.safetensors", "model.pth"}) {
    const json written = json_of(graft({"export", model, "-o", folder / name, "--json"}));
    EXPECT_EQ(written["bytes"], std::filesystem::file_size(folder / name));
    EXPECT_EQ(written["architecture"], "densenet121");
    json_of(graft({"weights", "import", folder / name, "-o", folder / "back.h5", "--arch", "densenet121", "--json"}));
    const json after = json_of(graft({"weights", "inspect", folder / "back.h5", "--json"}));
    EXPECT_EQ(after["values_sha256"], before["values_sha256"]) << name;
  }
  // Safetensors files say how the network wants its images as well.
  const Outcome back = graft(
      {"weights", "import", folder / "model.safetensors", "-o", folder / "back.h5", "--arch", "densenet121", "-q"});
  EXPECT_EQ(back.err, "");
  const ModelInfo was = read_model_info(model), is = read_model_info(folder / "back.h5");
  EXPECT_EQ(is.class_names, was.class_names);
  EXPECT_EQ(is.class_names.size(), 6u);
  EXPECT_EQ(std::pair(is.input_size, is.resize), std::pair(was.input_size, was.resize));
  EXPECT_EQ(std::pair(is.mean, is.std), std::pair(was.mean, was.std));
  const Outcome told = graft({"weights", "import", folder / "model.safetensors", "-o", folder / "back.h5", "--arch",
                              "densenet121", "--preprocess", "caffe", "--resize", "40"});
  EXPECT_EQ(told.err, "");
  EXPECT_EQ(read_model_info(folder / "back.h5").channel_order, "bgr");
  EXPECT_EQ(read_model_info(folder / "back.h5").resize, 40);

  const json safetensors = json_of(graft({"weights", "inspect", folder / "model.safetensors", "--json"}));
  EXPECT_EQ(safetensors["metadata"]["input_size"], "32");
}

TEST(Export, AGraphIsWritten) {
  const TemporaryFolder folder;
  const Outcome outcome = graft({"export", Workshop::get().model(), "-o", folder / "model.onnx"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("model.onnx: densenet121 with 6 classes"), std::string::npos) << outcome.out;
  EXPECT_NE(read_text(folder / "model.onnx").find("BatchNormalization"), std::string::npos);
}

TEST(Export, BadInputLeavesNothing) {
  const TemporaryFolder folder;
  write_atomically(folder / "text.h5", std::string_view("not a model"));
  expect_error(graft({"export", folder / "text.h5", "-o", folder / "model.onnx"}), 1, "text.h5");
  EXPECT_FALSE(std::filesystem::exists(folder / "model.onnx"));
  expect_error(graft({"export", Workshop::get().model(), "-o", "/dev/null/model.pth"}), 1, "/dev/null");
  std::filesystem::create_directory(folder / "folder.onnx");
  expect_error(graft({"export", Workshop::get().model(), "-o", folder / "folder.onnx"}), 2, "is a folder");
}

}  // namespace
}  // namespace graft::testing
