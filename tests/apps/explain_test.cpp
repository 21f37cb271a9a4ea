// `graft explain` as users meet it: a picture per image, the class by name, by number or the predicted one.
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/image.h"
#include "tests/apps/program_testing.h"

namespace graft::testing {
namespace {

using nlohmann::json;

TEST(Explain, WritesAPicturePerImage) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const Outcome outcome = graft({"explain", shop.model(), shop.one_image(), shop.images() + "/test/waves", "-o",
                                 folder / "maps", "--device", "reference", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json images = json::parse(outcome.out)["images"];
  ASSERT_EQ(images.size(), 3u);
  const json predicted = json::parse(
      graft({"predict", shop.model(), shop.one_image(), "--device", "reference", "--json"}).out)["images"][0]["top"][0];
  EXPECT_EQ(images[0]["index"], predicted["index"]);
  EXPECT_EQ(images[0]["label"], predicted["label"]);
  EXPECT_NEAR(images[0]["probability"].get<double>(), predicted["probability"].get<double>(), 1e-12);
  for (const json& image : images) {
    const Image picture = decode_image(std::filesystem::path(image["overlay"].get<std::string>()));
    EXPECT_EQ(picture.width, 32);
    EXPECT_EQ(picture.height, 32);
    EXPECT_EQ(image["evidence"].size(), 1u);  // of 32 pixels DenseNet leaves one place
  }
  // 000.png is there twice: no picture takes another's place.
  EXPECT_NE(images[0]["overlay"], images[1]["overlay"]);
}

TEST(Explain, TheClassIsANameOrANumber) {
  const Workshop& shop = Workshop::get();
  const TemporaryFolder folder;
  const auto index = [&](const std::string& text) {
    const Outcome outcome = graft({"explain", shop.model(), shop.one_image(), "-o", folder / "maps", "--device", "cpu",
                                   "--class", text, "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return json::parse(outcome.out)["images"][0]["index"].get<int>();
  };
  EXPECT_EQ(index("spiral"), 3);
  EXPECT_EQ(index("5"), 5);
  EXPECT_TRUE(std::filesystem::exists(folder / "maps/000.class-3.png"));
  const auto refused = [&](const std::string& text) {
    return graft(
        {"explain", shop.model(), shop.one_image(), "-o", folder / "none", "--device", "cpu", "--class", text});
  };
  expect_error(refused("spirla"), 2, "did you mean 'spiral'?");
  expect_error(refused("6"), 2, "0 to 5");
  expect_error(refused("-1"), 2, "0 to 5");
  EXPECT_FALSE(std::filesystem::exists(folder / "none"));
}

TEST(Explain, ABrokenImageIsNamed) {
  const TemporaryFolder folder;
  write_atomically(folder / "text.png", std::string_view("not an image"));
  expect_error(graft({"explain", Workshop::get().model(), folder / "text.png", "-o", folder / "maps"}), 1, "text.png");
}

}  // namespace
}  // namespace graft::testing
