// What the tape keeps and what it does not; arenas, slices and errors.
#include "tensor/tape.h"

#include <gtest/gtest.h>

#include "tensor/ops.h"

namespace graft {
namespace {

class Tapes : public testing::Test {
 protected:
  Context context_{make_backend({DeviceKind::reference, 0})};
  ParameterSet set_;
  Parameter& first_ = set_.add("first", {4, 3, 1, 1}, Role::linear_weight, 0);
  Parameter& second_ = set_.add("second", {2, 4, 1, 1}, Role::linear_weight, 1);

  void SetUp() override {
    set_.allocate(context_);
    std::vector<double> v(12);
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = 0.1 * double(i) - 0.4;
    first_.value.from_host(v);
    v.resize(8);
    second_.value.from_host(v);
  }
  Tensor loss() {
    const Tensor x = from_host(context_, {2, 3, 1, 1}, std::vector<double>{1, -2, 3, 0.5, 4, -1});
    const Tensor y = linear(linear(x, first_, nullptr, Activation::relu), second_, nullptr);
    return softmax_cross_entropy(y, labels_to_device(context_, std::vector<std::int32_t>{0, 1}, 2)).loss;
  }
};

TEST_F(Tapes, FrozenPrefixLeavesNoNode) {
  loss();
  EXPECT_EQ(context_.tape().size(), 3u);
  context_.tape().clear();
  first_.is_trainable = false;
  set_.prepare_gradients();
  const std::int64_t live = context_.backend().memory().live_bytes;
  {
    const Tensor l = loss();
    EXPECT_EQ(context_.tape().size(), 2u);
    context_.tape().backward(l);
  }
  EXPECT_EQ(context_.backend().memory().live_bytes, live);  // closures and gradients are gone
  EXPECT_TRUE(second_.has_gradient());
  EXPECT_THROW(first_.gradient(), Error);
}

TEST_F(Tapes, NothingIsRecordedWithoutGradients) {
  {
    const NoGrad no_grad(context_);
    loss();
  }
  EXPECT_EQ(context_.tape().size(), 0u);
  EXPECT_TRUE(context_.is_recording());
}

TEST_F(Tapes, GradientsAddUpUntilCleared) {
  context_.tape().backward(loss());
  const std::vector<double> once = first_.gradient().to_host();
  context_.tape().backward(loss(), 0.5);
  std::vector<double> sum = first_.gradient().to_host();
  for (std::size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(sum[i], 1.5 * once[i], 1e-15);
  set_.clear_gradients();
  EXPECT_FALSE(first_.has_gradient());
  context_.tape().backward(loss());
  EXPECT_EQ(first_.gradient().to_host(), once);
}

TEST_F(Tapes, TheScaleMayLieOnTheDevice) {
  context_.tape().backward(loss(), 0.3);
  const std::vector<double> expected = first_.gradient().to_host();
  set_.clear_gradients();
  const Tensor scale = from_host(context_, {1, 1, 1, 1}, std::vector<double>{0.3});
  context_.tape().backward(loss(), scale.view());
  EXPECT_EQ(first_.gradient().to_host(), expected);
}

TEST_F(Tapes, BackwardMayBeginAtManyNumbers) {
  // y = W x with dy given: dW = dy x^T, worked out by hand.
  const Tensor x = from_host(context_, {2, 3, 1, 1}, std::vector<double>{1, -2, 3, 0.5, 4, -1});
  const Tensor y = linear(x, first_, nullptr);
  const Tensor dy = from_host(context_, {2, 4, 1, 1}, std::vector<double>{1, 0, 0, -2, 0, 0, 3, 0});
  context_.tape().backward_from(y, dy);
  EXPECT_EQ(first_.gradient().to_host(), (std::vector<double>{1, -2, 3, 0, 0, 0, 1.5, 12, -3, -2, 4, -6}));
  EXPECT_EQ(context_.tape().size(), 0u);
  EXPECT_EQ(dy.to_host()[3], -2);  // the caller's tensor is read alone
}

TEST_F(Tapes, RandomNumbersCountedFromTheDeviceAreThoseOfTheStep) {
  context_.set_training(true);
  const Tensor x = from_host(context_, {1, 64, 1, 1}, std::vector<double>(64, 1.0));
  const auto draw = [&] { return dropout(x, 0.5).to_host(); };
  const Tensor base(context_, {1, 1, 1, 1}, kNhwc, DType::f64);
  const auto begin = [&](std::int64_t step, bool on_device) {
    const double first = double(Context::first_random_call(step));
    context_.backend().copy_in(base.view().data, &first, sizeof first);
    on_device ? context_.start_step(7, base.view().as<double>()) : context_.start_step(7, step);
  };
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{5}, std::int64_t{1} << 23}) {
    begin(step, false);
    const std::vector<double> first = draw(), second = draw();
    begin(step, true);
    EXPECT_EQ(draw(), first);
    EXPECT_EQ(draw(), second);
    EXPECT_NE(first, second);
  }
}

TEST_F(Tapes, BackwardRefusesWhatMakesNoSense) {
  EXPECT_THROW(context_.tape().backward(zeros(context_, {2, 1, 1, 1})), Error);
  EXPECT_THROW(context_.tape().backward(zeros(context_, {1, 1, 1, 1})), Error);  // depends on nothing trainable
  const Tensor x = zeros(context_, {2, 3, 1, 1}), y = linear(x, first_, nullptr);
  EXPECT_THROW(context_.tape().backward_from(y, x), Error);
  EXPECT_THROW(context_.tape().backward_from(y.channels(0, 2), zeros(context_, {2, 2, 1, 1})), Error);
  EXPECT_THROW(context_.tape().backward_from(x, x), Error);
}

TEST_F(Tapes, BadValuesAreFoundByName) {
  std::vector<double> v = first_.value.to_host();
  v[5] = std::numeric_limits<double>::infinity();
  first_.value.from_host(v);
  context_.set_checks_finite(true);
  const Scope scope(context_, "layer9");
  try {
    loss();
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("layer9"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("linear"), std::string::npos) << e.what();
  }
}

TEST_F(Tapes, ArenasHoldEveryParameterAtAnAlignedPlace) {
  EXPECT_EQ(first_.offset % 16, 0);
  EXPECT_EQ(second_.offset % 16, 0);
  EXPECT_GE(second_.offset, first_.offset + first_.shape.size());
  first_.is_trainable = false;
  set_.prepare_gradients();
  EXPECT_EQ(second_.gradient_offset, 0);
  EXPECT_EQ(set_.trainable_size(), 16);
}

TEST_F(Tapes, SlicesAreTheSameMemory) {
  Tensor whole = zeros(context_, {2, 6, 1, 2});
  Tensor slice = whole.channels(2, 5);
  std::vector<double> v(12);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = double(i + 1);
  slice.from_host(v);
  EXPECT_EQ(slice.to_host(), v);
  const std::vector<double> all = whole.to_host();  // [2,6,1,2]
  EXPECT_EQ(all[2 * 2], 1);
  EXPECT_EQ(all[1 * 2], 0);
  EXPECT_EQ(all[6 * 2 + 2 * 2], 7);
  EXPECT_THROW(whole.channels(3, 7), Error);
  EXPECT_THROW(whole.channels(3, 3), Error);
}

TEST_F(Tapes, ShapesThatDoNotFitAreNamed) {
  const Tensor x = zeros(context_, {2, 5, 1, 1});
  EXPECT_THROW(linear(x, first_, nullptr), Error);
  EXPECT_THROW(add(x, zeros(context_, {2, 4, 1, 1})), Error);
  EXPECT_THROW(dropout(x, 1.0), Error);
  EXPECT_THROW(max_pool(x, {}), Error);
  EXPECT_THROW(labels_to_device(context_, std::vector<std::int32_t>{0, 3}, 3), Error);
  EXPECT_THROW(Tensor(context_, {1, 12, 2, 2}, Format{8}, DType::f64), Error);
  EXPECT_THROW(zeros(context_, {2, 3, 2, 2}).from_host(std::vector<double>(3)), Error);
}

}  // namespace
}  // namespace graft
