#include "tests/apps/page_testing.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace graft::testing {
namespace {

/// Without what lies between `open` and the next `close`. (std::regex runs out of stack on long scripts and pictures.)
std::string without(std::string text, const std::string& open, const std::string& close) {
  for (std::size_t at = 0; (at = text.find(open, at)) != std::string::npos;)
    text.erase(at, text.find(close, at + open.size()) - at + close.size());
  return text;
}

}  // namespace

void expect_page(const std::string& html) {
  static const std::set<std::string> kVoid{"meta", "br", "img"};
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  const std::string body =
      without(without(without(html, "<style>", "</style>"), "<script>", "</script>"), "data:image/jpeg;base64,", "\"");
  for (const char* absent : {"http://", "https://", "src=\"/", "@import", "url(//", "\"nan", "nan ", "inf\"", "inf "})
    EXPECT_EQ(body.find(absent), std::string::npos) << absent << ": " << body.substr(body.find(absent), 200);
  std::vector<std::string> open;
  for (std::size_t at = 0; (at = body.find('<', at)) != std::string::npos; ++at) {
    if (body.compare(at, 2, "<!") == 0) continue;
    const std::size_t end = body.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = body.substr(at + 1, end - at - 1);
    const bool is_end = tag.starts_with("/");
    const std::string name = tag.substr(is_end, tag.find_first_of(" /\n", 1) - std::size_t(is_end));
    if (tag.ends_with("/") || kVoid.contains(name)) continue;
    if (!is_end) {
      open.push_back(name);
      continue;
    }
    ASSERT_FALSE(open.empty()) << name;
    ASSERT_EQ(open.back(), name) << body.substr(at > 200 ? at - 200 : 0, 260);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty()) << open.back();
}

}  // namespace graft::testing
