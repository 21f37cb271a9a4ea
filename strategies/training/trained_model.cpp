#include "strategies/training/trained_model.h"

#include "models/network_io.h"
#include "strategies/training/starting_model.h"

namespace graft {

std::filesystem::path model_file_of(const std::filesystem::path& run_or_model) {
  if (!std::filesystem::exists(run_or_model))
    throw Error(run_or_model.string() + ": no such model file or run directory; check the path");
  if (!std::filesystem::is_directory(run_or_model)) return run_or_model;
  for (const char* name : {"best.h5", "last.h5"})
    if (std::filesystem::exists(run_or_model / name)) return run_or_model / name;
  throw Error(run_or_model.string() + " holds neither best.h5 nor last.h5; name a run directory or a model file");
}

std::unique_ptr<Network> trained_network(Context& context, const std::filesystem::path& model_file, std::int64_t size) {
  ModelFile file = read_model_file(model_file);
  set_input_size(file.info, size, 0);
  std::unique_ptr<Network> network = make_network(context, file.info);
  load_weights(*network, file.weights);
  return network;
}

}  // namespace graft
