// Pieces of charts: where values land, which values get a line, and what text becomes.
#include "apps/svg.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apps/page.h"

namespace graft::testing {
namespace {

TEST(Svg, TextIsEscapedAndHoldsNoControlCharacters) {
  EXPECT_EQ(escaped_markup("a<b>&\"c\"\x01\x7f\n"), "a&lt;b&gt;&amp;&quot;c&quot;\n");
  EXPECT_EQ(svg_text(1, 2.25, "end", "<x>", " class=\"y\""),
            "<text x=\"1.0\" y=\"2.2\" text-anchor=\"end\" class=\"y\">&lt;x&gt;</text>\n");
}

TEST(Svg, APlotPutsItsAxesAtItsEdges) {
  const Plot plot{{.width = 300, .height = 200, .font = 10}, {0, 10}, {1, 100, true}, 50, 20, 30, 40};
  EXPECT_DOUBLE_EQ(plot.across(0), 50);
  EXPECT_DOUBLE_EQ(plot.across(10), 280);
  EXPECT_DOUBLE_EQ(plot.across(5), 165);
  EXPECT_DOUBLE_EQ(plot.down(1), 160);
  EXPECT_DOUBLE_EQ(plot.down(100), 30);
  EXPECT_DOUBLE_EQ(plot.down(10), 95);
  EXPECT_EQ(plot.y_grid({10}, [](double) { return "ten"; }),
            svg_line(50, 95, 280, 95, "grid") + svg_text(45, 98.5, "end", "ten"));
}

std::string words(const std::vector<double>& ticks) {
  std::string text;
  for (double v : ticks) text += fmt::format("{:.6g} ", v);
  return text;
}

TEST(Svg, TicksAreRound) {
  EXPECT_EQ(words(Axis{0.61, 0.94}.ticks(4)), "0.7 0.8 0.9 ");
  EXPECT_EQ(words(Axis{-1, 1}.ticks(4)), "-1 -0.5 0 0.5 1 ");
  EXPECT_EQ(words(Axis{0.5, 5000, true}.ticks()), "1 10 100 1000 ");
  EXPECT_EQ(words(Axis{3, 40, true}.ticks()), "5 10 20 ");
  EXPECT_DOUBLE_EQ(round_distance(0, 1, 4), 0.5);
  EXPECT_DOUBLE_EQ(round_distance(0, 1, 5), 0.2);
  EXPECT_DOUBLE_EQ(round_distance(0, 17, 15, {1, 2, 4}), 2);
}

TEST(Svg, AnAxisHoldsItsValuesAndNothingElse) {
  const Axis axis = Axis::around({2, NAN, 4, INFINITY});
  EXPECT_DOUBLE_EQ(axis.low, 1.9);
  EXPECT_DOUBLE_EQ(axis.high, 4.1);
  const Axis decades = Axis::around({10, 0, -3, 1000}, true);
  EXPECT_NEAR(std::log10(decades.low), 0.88, 1e-12);
  EXPECT_NEAR(std::log10(decades.high), 3.12, 1e-12);
  for (bool is_log : {false, true})
    for (const std::vector<double>& values : {std::vector<double>{}, {NAN}, {0.0}, {3, 3}}) {
      const Axis odd = Axis::around(values, is_log);
      EXPECT_LT(odd.low, odd.high);
      EXPECT_TRUE(std::isfinite(odd.share(0.5)));
    }
}

TEST(Svg, APathIsInterruptedWhereThereIsNothing) {
  EXPECT_EQ(svg_path({0, 1, 2, 3, 4}, {0, 1, NAN, 3, 4}, "c"),
            "<path class=\"c\" d=\"M0.0 0.0L1.0 1.0M3.0 3.0L4.0 4.0\"/>\n");
  EXPECT_EQ(svg_path({0}, {0}, "c"), "");
  EXPECT_EQ(svg_path({0, 1, 2}, {0, NAN, 2}, "c"), "");
}

TEST(Page, CellsSortByTheirNumber) {
  EXPECT_EQ(number_cell(0.25, "1/4"), "<td data-v=\"0.25\">1/4</td>");
  EXPECT_EQ(number_cell(NAN, "-", "odd"), "<td data-v=\"-1e99\" class=\"odd\">-</td>");
}

}  // namespace
}  // namespace graft::testing
