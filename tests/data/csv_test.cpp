#include "data/csv.h"

#include <cmath>

#include "data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::expect_names;

using Rows = std::vector<std::vector<std::string>>;

TEST(Csv, ReadsQuotedFieldsAndBothLineEnds) {
  const CsvTable table =
      parse_csv("\xEF\xBB\xBFpath, label\r\n\"a,b.png\",\"he said \"\"hi\"\"\"\r\n\nc.png,\"two\nlines\"\nd.png,", "t");
  EXPECT_EQ(table.header, (std::vector<std::string>{"path", "label"}));
  EXPECT_EQ(table.rows, (Rows{{"a,b.png", "he said \"hi\""}, {"c.png", "two\nlines"}, {"d.png", ""}}));
  EXPECT_EQ(table.lines, (std::vector<std::int64_t>{2, 4, 6}));
  EXPECT_EQ(table.column("label"), 1U);
  EXPECT_FALSE(table.column("split"));
}

TEST(Csv, WhatIsWrittenIsReadBack) {
  const Rows rows{{"plain", "with,comma"}, {"quote\"inside", "line\nbreak"}, {"", " spaces "}, {"\"", "\r\n"}};
  std::string text = csv_line({"a", "b"});
  for (const auto& row : rows) text += csv_line(row);
  EXPECT_EQ(parse_csv(text, "t").rows, rows);
}

TEST(Csv, NumbersMayBeSmallerThanUsualOnes) {
  EXPECT_EQ(number_field("5.4e-317", "t"), 5.4e-317);
  EXPECT_EQ(number_field("1e-400", "t"), 0);
  EXPECT_EQ(number_field("-2.5", "t"), -2.5);
  EXPECT_TRUE(std::isnan(number_field("nan", "t")));
  expect_names(error_of([] { number_field("0.5x", "scores.csv"); }), {"scores.csv", "expected a number", "'0.5x'"});
  expect_names(error_of([] { number_field("", "scores.csv"); }), {"expected a number, got ''"});
}

TEST(Csv, NamesTheLineOfAMistake) {
  expect_names(error_of([] { parse_csv("a,b\n1,2\n3\n", "file.csv"); }), {"file.csv", "line 3", "expected 2", "got 1"});
  expect_names(error_of([] { parse_csv("a,b\n1,\"2\n3,4\n", "file.csv"); }), {"line 2", "never closed"});
  expect_names(error_of([] { parse_csv("a,b\n1,x\"2\"\n", "file.csv"); }), {"line 2", "quote"});
  expect_names(error_of([] { parse_csv("a,b\n1,\"2\"x\n", "file.csv"); }), {"line 2", "closing quote"});
  expect_names(error_of([] { parse_csv("\n", "file.csv"); }), {"empty"});
}

}  // namespace
}  // namespace graft
