// Several labels per image: what sources say, how they are split, and the scores of predictions.
#include <fmt/format.h>

#include <cmath>

#include "data/dataset.h"
#include "data/folds.h"
#include "data/metrics.h"
#include "data/split.h"
#include "data_testing.h"

namespace graft {
namespace {

using testing::error_of;
using testing::expect_names;
using testing::TemporaryFolder;

TEST(LabelSets, SplitsAndJoinsNames) {
  EXPECT_EQ(LabelSets::split("Mass|Nodule"), (std::vector<std::string>{"Mass", "Nodule"}));
  EXPECT_EQ(LabelSets::split(" Pleural Other | Mass"), (std::vector<std::string>{"Pleural Other", "Mass"}));
  EXPECT_EQ(LabelSets::split(" "), std::vector<std::string>{});
  for (const char* text : {"a||b", "|a", "a| "})
    expect_names(error_of([&] { LabelSets::split(text); }), {text, "empty label"});

  LabelNumbers numbers;
  const std::int32_t both = numbers.label_of({2, 0, 2}), none = numbers.label_of({});
  EXPECT_EQ(numbers.label_of({0, 2}), both);
  const LabelSets sets = numbers.sets();
  const std::vector<std::string> names{"a", "b", "c"};
  EXPECT_EQ(sets.text(both, names), "a|c");
  EXPECT_EQ(sets.text(none, names), "");
  EXPECT_TRUE(sets.has(both, 2) && !sets.has(both, 1) && !sets.has(none, 0));
  EXPECT_EQ(sets.table(3), (std::vector<double>{1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(sets.renumbered(std::vector<std::int32_t>{2, 1, 0}).text(both, names), "a|c");
  EXPECT_EQ(sets.renumbered(std::vector<std::int32_t>{1, 0, 2}).text(both, names), "b|c");
  EXPECT_EQ(LabelSets().text(1, names), "b");
}

Dataset open_csv(const TemporaryFolder& folder, const std::string& text) {
  return Dataset::open({.path = folder.write("list.csv", text), .decodes_all = false, .for_training = false});
}

TEST(MultiLabel, CsvWithAColumnOfLabels) {
  const TemporaryFolder folder;
  const std::string rows = "1.png,Mass|Edema,train\n2.png,,train\n3.png,Nodule,val\n4.png,Edema | Mass,test\n";
  const Dataset data = open_csv(folder, "path,labels,split\n" + rows);
  EXPECT_TRUE(data.is_multi_label());
  EXPECT_EQ(data.class_names(), (std::vector<std::string>{"Edema", "Mass", "Nodule"}));
  EXPECT_EQ(data.counts(Split::train), (std::vector<std::int64_t>{1, 1, 0}));
  EXPECT_EQ(data.samples()[0].label, data.samples()[3].label);
  EXPECT_EQ(data.split_csv(),
            "path,labels,split,group\n1.png,Edema|Mass,train,\n2.png,,train,\n3.png,Nodule,val,\n"
            "4.png,Edema|Mass,test,\n");
  expect_names(data.training_obstacle(), {"'Nodule'", "none in train"});
  EXPECT_TRUE(data.notes().empty());

  const auto refusal = [&](const std::string& text) { return error_of([&] { open_csv(folder, text); }); };
  expect_names(refusal("path,labels\n1.png,a\n2.png,a||b\n"), {"list.csv, line 3", "empty label"});
  expect_names(refusal("path,labels,label\n1.png,a,b\n"), {"'label' and 'labels'"});
  const Dataset healthy = open_csv(folder, "path,labels\n1.png,\n2.png,\n");  // specificity can be measured on them
  EXPECT_TRUE(healthy.class_names().empty());
  expect_names(healthy.training_obstacle(), {"no image has a label"});
  const Dataset one = open_csv(folder, "path,labels,split\n1.png,Mass,train\n2.png,,train\n");
  EXPECT_EQ(one.training_obstacle(), "");
  EXPECT_TRUE(has_several_labels(folder.write("a.csv", "path,labels\n")));
  EXPECT_FALSE(has_several_labels(folder.write("b.csv", "path,label\n")));
  expect_names(refusal("path,finding\n1.png,a\n"), {"'label'", "labels for several"});
  const Dataset semicolons = open_csv(folder, "path,labels\n1.png,a;b\n2.png,\n");
  ASSERT_EQ(semicolons.notes().size(), 1U);
  expect_names(semicolons.notes()[0], {"'a;b' is taken for one label", "separated by |"});
  const Dataset single = open_csv(folder, "path,labels,split\n1.png,a,train\n2.png,b,train\n");
  ASSERT_EQ(single.notes().size(), 1U);
  expect_names(single.notes()[0], {"every image has one label", "named label"});
}

/// Images of four classes, of which the last is rare, and many without any.
std::vector<Sample> samples_of(LabelNumbers& numbers, std::int64_t count) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<std::int32_t> classes;
    for (const std::int32_t c : {0, 1, 2})
      if ((i * (c + 3)) % 7 < 3 - c) classes.push_back(c);
    if (i % 50 == 0) classes.push_back(3);
    samples.push_back({.path = std::to_string(i), .label = numbers.label_of(classes)});
  }
  return samples;
}

TEST(MultiLabel, EachClassGivesItsShareAndSoDoImagesWithout) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    LabelNumbers numbers;
    std::vector<Sample> samples = samples_of(numbers, 400);
    const LabelSets sets = numbers.sets();
    hold_out(samples, {.fraction = 0.25, .seed = seed, .class_count = 4, .label_sets = sets});
    double all[5] = {}, held[5] = {};
    for (const Sample& sample : samples) {
      std::vector<std::int32_t> classes = sets.classes_of(sample.label);
      if (classes.empty()) classes = {4};
      for (const std::int32_t c : classes) all[c] += 1, held[c] += sample.split == Split::val;
    }
    EXPECT_EQ(all[3], 8);
    for (int c = 0; c < 5; ++c) EXPECT_NEAR(held[c], std::nearbyint(0.25 * all[c]), 1) << "class " << c;
    std::vector<Sample> again = samples_of(numbers, 400);
    hold_out(again, {.fraction = 0.25, .seed = seed, .class_count = 4, .label_sets = sets});
    for (std::size_t i = 0; i < samples.size(); ++i) EXPECT_EQ(again[i].split, samples[i].split);
  }
}

TEST(MultiLabel, FoldsAndSubsetsAreEvenInEachClass) {
  LabelNumbers numbers;
  const std::vector<Sample> samples = samples_of(numbers, 400);
  const LabelSets sets = numbers.sets();
  const std::vector<std::string> names{"a", "b", "c", "d"};
  const std::vector<std::int64_t> folds =
      assign_folds(samples, {.folds = 4, .seed = 2, .class_count = 4, .label_sets = sets}, names);
  double all[5] = {}, of_fold[4][5] = {};
  for (std::size_t i = 0; i < samples.size(); ++i)
    for (const std::size_t c : counted_classes(samples[i], sets, 4)) all[c] += 1, of_fold[folds[i]][c] += 1;
  for (const auto& fold : of_fold)
    for (int c = 0; c < 5; ++c) EXPECT_NEAR(fold[c], all[c] / 4, 1.5) << "class " << c;
  const std::string refusal =
      error_of([&] { assign_folds(samples, {.folds = 9, .class_count = 4, .label_sets = sets}, names); });
  expect_names(refusal, {"class 'd' has 8 groups"});

  std::int64_t kept[5] = {};
  for (const Sample& s : subset_per_class(samples, {.per_class = {10, 0, 0}, .class_count = 4, .label_sets = sets}))
    for (const std::size_t c : counted_classes(s, sets, 4)) ++kept[c];
  for (int c = 0; c < 5; ++c) EXPECT_TRUE(kept[c] > 0 && kept[c] <= 10) << c << ": " << kept[c];
}

/// NaN where scikit-learn's answer is null.
void expect_score(double score, const nlohmann::json& expected, const char* name) {
  SCOPED_TRACE(name);
  if (expected.is_null())
    EXPECT_TRUE(std::isnan(score)) << score;
  else
    EXPECT_NEAR(score, expected.get<double>(), 1e-12);  // sums of some hundred doubles
}

TEST(MultiLabel, ScoresEqualScikitLearn) {
  const auto cases = nlohmann::json::parse(read_text(testing::reference_folder() / "multi_label.json")).at("scores");
  ASSERT_EQ(cases.size(), 5U);
  for (const auto& expected : cases) {
    SCOPED_TRACE(std::string(expected["name"]));
    const std::vector<double> probabilities = expected["probabilities"];
    const std::vector<int> truth = expected["truth"];
    const auto classes = expected["classes"].size();
    LabelNumbers numbers;
    std::vector<std::int32_t> labels;
    for (std::size_t i = 0; i < truth.size(); i += classes) {
      std::vector<std::int32_t> of_image;
      for (std::size_t c = 0; c < classes; ++c)
        if (truth[i + c] != 0) of_image.push_back(std::int32_t(c));
      labels.push_back(numbers.label_of(of_image));
    }
    const Metrics m = compute_metrics(probabilities, labels, std::int64_t(classes), numbers.sets());
    const std::pair<const char*, double> scores[] = {{"loss", m.loss},
                                                     {"accuracy", m.accuracy},
                                                     {"macro_accuracy", m.macro_accuracy},
                                                     {"macro_f1", m.macro_f1},
                                                     {"weighted_f1", m.weighted_f1},
                                                     {"kappa", m.kappa},
                                                     {"auc", m.auc},
                                                     {"average_precision", m.average_precision},
                                                     {"sensitivity", m.sensitivity},
                                                     {"specificity", m.specificity},
                                                     {"brier", m.brier},
                                                     {"subset_accuracy", m.subset_accuracy}};
    for (const auto& [name, score] : scores) expect_score(score, expected[name], name);
    ASSERT_EQ(m.of_classes.size(), classes);
    EXPECT_TRUE(m.confusion.empty());
    for (std::size_t c = 0; c < classes; ++c) {
      const ClassScores& s = m.of_classes[c];
      const auto& of_class = expected["classes"][c];
      EXPECT_EQ(s.positives, of_class["positives"].get<std::int64_t>());
      expect_score(s.auc, of_class["auc"], "auc");
      expect_score(s.average_precision, of_class["average_precision"], "average_precision");
      expect_score(s.sensitivity, of_class["sensitivity"], "sensitivity");
      expect_score(s.specificity, of_class["specificity"], "specificity");
      expect_score(s.f1, of_class["f1"], "f1");
    }
  }
}

TEST(MultiLabel, CalibrationIsOfAllAnswers) {
  LabelNumbers numbers;
  const std::vector<std::int32_t> labels{numbers.label_of({0}), numbers.label_of({})};
  // Four answers in one bin at a certainty of 0.9, three of them right.
  const Metrics m = compute_metrics(std::vector<double>{0.9, 0.1, 0.1, 0.9}, labels, 2, numbers.sets());
  EXPECT_NEAR(m.calibration_error, 0.15, 1e-12);
  EXPECT_EQ(m.subset_accuracy, 0.5);
  const auto refusal = [&](const std::vector<double>& p, std::int32_t label) {
    return error_of([&] { compute_metrics(p, std::vector<std::int32_t>{label}, 2, numbers.sets()); });
  };
  expect_names(refusal({0.5, 0.5}, 2), {"label 2", "2 combinations"});
  expect_names(refusal({0.5}, 0), {"1 x 2 probabilities"});
  expect_names(refusal({0.5, std::nan("")}, 0), {"not finite"});
}

}  // namespace
}  // namespace graft
