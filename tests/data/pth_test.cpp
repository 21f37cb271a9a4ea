#include "data/pth.h"

#include <cstring>

#include "data/pickle.h"
#include "tests/data/weight_testing.h"

namespace graft {
namespace {

using namespace testing_weights;

TEST(Pth, ReadsZipLegacyAndWrappedAlike) {
  for (const char* file : {"zip.pth", "legacy.pth", "wrapped.pth", "wrapped_legacy.pth"}) {
    SCOPED_TRACE(file);
    const WeightTable table = read_pth(fixture(file));
    ASSERT_EQ(table.size(), 7);
    EXPECT_EQ(table.tensors()[0].name, "conv1.weight");
    EXPECT_EQ(table.tensors()[6].name, "fc.bias");
    EXPECT_EQ(table.at("conv1.weight").shape, (Dimensions{4, 3, 3, 5}));
    for (const WeightTensor& tensor : table.tensors()) expect_values(tensor, tensor.name);
    ASSERT_EQ(table.skipped.size(), 1U);
    EXPECT_EQ(table.skipped[0].name, "bn1.num_batches_tracked");
    EXPECT_EQ(table.skipped[0].dtype, "LongStorage");
  }
}

TEST(Pth, ReadsEveryFloatingType) {
  const WeightTable table = read_pth(fixture("types.pth"));
  expect_values(table.at("half"), "fc.weight");
  EXPECT_EQ(table.at("half").stored_dtype, DType::f16);
  expect_values(table.at("bfloat16"), "fc.weight", rounded_to_bfloat16);
  EXPECT_EQ(table.at("bfloat16").stored_dtype, DType::bf16);
  expect_values(table.at("double"), "fc.weight");
  EXPECT_EQ(table.at("double").exact[3], static_cast<double>(value_of("fc.weight", 3)));
}

TEST(Pth, GathersStridedTensors) {
  for (const char* file : {"strided.pth", "strided_legacy.pth"}) {
    SCOPED_TRACE(file);
    const WeightTable table = read_pth(fixture(file));
    const auto base = [](std::int64_t row, std::int64_t column) { return value_of("base", row * 5 + column); };
    const auto& transposed = table.at("transposed");
    ASSERT_EQ(transposed.shape, (Dimensions{5, 6}));
    for (std::int64_t i = 0; i < 30; ++i) EXPECT_EQ(transposed.values[static_cast<std::size_t>(i)], base(i % 6, i / 6));
    EXPECT_EQ(table.at("window").values, (std::vector<float>{base(1, 2), base(1, 3), base(3, 2), base(3, 3)}));
    EXPECT_EQ(table.at("one_row").values[4], base(3, 4));
    EXPECT_EQ(table.at("scalar").shape, Dimensions{});
    EXPECT_EQ(table.at("scalar").values, (std::vector<float>{base(2, 2)}));
    EXPECT_EQ(table.at("repeated").values[14], base(0, 4));
    EXPECT_EQ(table.at("empty").shape, (Dimensions{0, 5}));
    expect_values(table.at("channels_last"), "conv1.weight");
    expect_values(table.at("parameter"), "base");
  }
}

TEST(Pth, ForeignGlobalsAreNamedAndNeverExecuted) {
  const std::filesystem::path proof = "/tmp/graft_pickle_was_executed";
  ASSERT_FALSE(std::filesystem::exists(proof)) << "remove this file first";
  for (const char* file : {"foreign.pth", "foreign_legacy.pth"}) {
    const std::string text = error_lines_of([&] { read_pth(fixture(file)); });
    EXPECT_SAYS(text, "posix.system");
    EXPECT_SAYS(text, "nothing was executed");
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(proof));
}

TEST(Pth, RefusesOtherFilesWithAdvice) {
  const TemporaryFolder folder;
  EXPECT_SAYS(error_lines_of([&] { read_pth(fixture("plain_pickle.pth")); }), "plain Python pickle");
  EXPECT_SAYS(error_lines_of([&] { read_pth(fixture("mixed.safetensors")); }), "neither a zip nor");
  EXPECT_SAYS(error_lines_of([&] { read_pth(folder / "absent.pth"); }), "absent.pth");
  EXPECT_SAYS(error_lines_of([&] { read_pth(folder.path()); }), "regular file");
  std::string tar(1024, '\0');
  std::memcpy(tar.data() + 257, "ustar", 5);
  write_bytes(folder / "old.pth", tar);
  EXPECT_SAYS(error_lines_of([&] { read_pth(folder / "old.pth"); }), "0.1.10");
}

/// Runs a program of raw opcodes.
pickle::Document run(const std::string& program) {
  return pickle::parse({reinterpret_cast<const std::uint8_t*>(program.data()), program.size()}, "test");
}

TEST(Pickle, RefusesEveryOpcodeOutsideTheSubset) {
  const std::string allowed(
      "\x80"
      "cqrhj(t\x85\x86\x87RX\x55JKMQ\x89\x88NG\x8a}]aesu\x81"
      "b.)",
      33);
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (allowed.find(static_cast<char>(opcode)) != std::string::npos) continue;
    EXPECT_SAYS(error_lines_of([&] { run(std::string(1, static_cast<char>(opcode)) + std::string(300, '\0')); }),
                "is not one that");
  }
}

TEST(Pickle, RefusesBrokenPrograms) {
  for (const std::string& program : {
           std::string("."),                               // nothing to return
           std::string("(t"),                              // no STOP
           std::string("t."),                              // TUPLE without MARK
           std::string("N(\x85."),                         // takes below the mark
           std::string("}(NNNu."),                         // a key without a value
           std::string("NNs."),                            // SETITEM on nothing
           std::string("h\x05."),                          // unknown memo
           std::string("X\xff\xff\xff\xff."),              // text longer than the file
           std::string("ccollections\nOrderedDict\nNR."),  // arguments are no tuple
           std::string("ccollections\nOrderedDict\n]\x85R}b"),
           std::string("NQ."),                        // a persistent id that is no tuple
           std::string("ctorch\nFloatStorage\n)R."),  // a type that is called
           std::string("ctorch._utils\n_rebuild_tensor_v2\n)R."),
           std::string("\x80\x09."),  // unknown protocol
       }) {
    EXPECT_THROW(run(program), Error) << program;
  }
  EXPECT_EQ(run(std::string("\x8a\x02\x00\xff.", 5)).nodes.back().integer, -256) << "LONG1 is two's complement";
}

TEST(Pickle, SelfReferenceAndDepthNeedNoRecursion) {
  EXPECT_NO_THROW(run(std::string("]q") + '\0' + "h" + '\0' + "a."));  // a list that holds itself
  EXPECT_NO_THROW(run("N" + std::string(1'000'000, '\x85') + "."));    // a million nested tuples
  EXPECT_THROW(run(std::string(5'000'000, 'N') + "."), Error);
  EXPECT_THROW(run(std::string(5'000'000, '(') + "."), Error);
}

/// Both writers' files read back to the same bits; .pth entries lie where torch.load(mmap=True) wants them.
TEST(Pth, WritesWhatItReads) {
  const TemporaryFolder folder;
  WeightTable table;
  table.add({"conv1.weight", {2, 3, 1, 2}, DType::f32, {1.5f, -2, 3, 1e-30f, 5, 6, 7, -0.0f, 9, 10, 11, 12}, {}});
  table.add({"exact", {2}, DType::f64, {0.1f, 1e-9f}, {0.1, 1e-9}});
  table.add({"scalar", {}, DType::f32, {3.25f}, {}});
  table.add({"empty", {0, 4}, DType::f32, {}, {}});
  write_pth(folder / "t.pth", table);
  const WeightTable back = read_pth(folder / "t.pth");
  ASSERT_EQ(back.size(), table.size());
  for (std::size_t i = 0; i < table.tensors().size(); ++i) {
    const WeightTensor &a = table.tensors()[i], &b = back.tensors()[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.shape, b.shape);
    EXPECT_EQ(a.values, b.values);
    EXPECT_EQ(a.exact, b.exact);
  }
  const std::string bytes = read_bytes(folder / "t.pth");
  const float first = 1.5f;
  const std::size_t at =
      bytes.find(std::string(reinterpret_cast<const char*>(&first), 4) + std::string(3, '\0') + "\xc0");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(at % 64, 0u);
  write_pth(folder / "again.pth", table);
  EXPECT_EQ(read_bytes(folder / "again.pth"), bytes);
}

}  // namespace
}  // namespace graft
