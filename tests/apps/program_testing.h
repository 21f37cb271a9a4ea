// Runs the real `graft` program as a user would: a process of its own, with its output and exit code. Also small image
// sets and a model file, made once per test program.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace graft::testing {

struct Outcome {
  int exit_code = -1;  // -1: killed by a signal
  std::string out, err;
};

struct Call {
  std::vector<std::string> arguments;
  std::map<std::string, std::string> environment = {};  // beside the test's own; TERM=dumb unless given
  /// With both streams on a pseudo-terminal; everything arrives in `out`.
  bool on_terminal = false;
  std::string stdout_path = {};  // where stdout goes instead: "/dev/full"
  /// Sent once stderr holds this text.
  std::string signal_after = {};
  int signal = 0;
};

Outcome run(const Call& what);
inline Outcome graft(std::vector<std::string> arguments) { return run({.arguments = std::move(arguments)}); }

/// stderr is one line "graft: error: …" that contains `part`, stdout is empty, and the exit code is `code`.
void expect_error(const Outcome& outcome, int code, const std::string& part);

/// A folder that vanishes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Drawn images in images/{train,val,test}/<pattern>/ and a DenseNet-121 for 32 px with random weights whose classes
/// are the images': the file that ctest had made for all tests (tests/shared_model.h), or its own.
class Workshop {
 public:
  static const Workshop& get();
  std::string images() const { return folder_ / "images"; }
  std::string model() const { return model_; }
  std::string one_image() const { return images() + "/test/circles/000.png"; }

 private:
  Workshop();
  TemporaryFolder folder_;
  std::string model_;
};

/// Arguments that make `graft train` small: DenseNet-121, 32 px, 8 images a batch, one thread.
std::vector<std::string> small_training(const std::string& data, const std::string& run_directory,
                                        std::vector<std::string> more = {});

}  // namespace graft::testing
