#include "strategies/training/frozen_proof.h"

#include <algorithm>
#include <memory>

#include "data/files.h"
#include "data/parallel.h"
#include "kernels/usable_cores.h"
#include "strategies/freeze_plan.h"

namespace graft {
namespace {

struct Piece {
  std::string name;
  std::vector<std::span<const std::uint8_t>> parts;
  std::string hash;
};

/// What is frozen now, as spans of `arena`, the bytes of all values.
std::vector<Piece> frozen_pieces(const ParameterSet& parameters, std::span<const std::uint8_t> arena,
                                 std::int64_t item) {
  const auto elements = [&](std::int64_t begin, std::int64_t count) {
    return arena.subspan(std::size_t(begin * item), std::size_t(count * item));
  };
  std::vector<Piece> pieces;
  for (const Parameter& p : parameters.parameters()) {
    const bool is_whole = !p.is_trainable;
    Piece piece{is_whole ? p.name : p.name + " channels", {}, {}};
    if (is_whole) {
      piece.parts.push_back(elements(p.offset, p.shape.size()));
    } else if (!p.row_mask.empty()) {
      const std::int64_t row = p.shape.size() / p.rows();
      for (std::int64_t k = 0; k < p.rows(); ++k)
        if (!channel_trains(p, k)) piece.parts.push_back(elements(p.offset + k * row, row));
    }
    if (!piece.parts.empty()) pieces.push_back(std::move(piece));
  }
  for (const RunningStatistics& s : parameters.statistics())
    if (!s.update_running) pieces.push_back({s.name + " statistics", {elements(s.offset, 2 * s.channels)}, {}});
  return pieces;
}

std::map<std::string, std::string> frozen_hashes(const ParameterSet& parameters) {
  const auto is_frozen = [](const Parameter& p) { return !p.is_trainable || !p.row_mask.empty(); };
  const auto is_kept = [](const RunningStatistics& s) { return !s.update_running; };
  if (std::ranges::none_of(parameters.parameters(), is_frozen) &&
      std::ranges::none_of(parameters.statistics(), is_kept))
    return {};  // and nothing leaves the device
  const Tensor& values = parameters.values();
  const std::int64_t item = size_of(values.dtype());
  const auto bytes = std::size_t(values.shape().size() * item);
  const auto arena = std::make_unique_for_overwrite<std::uint8_t[]>(bytes);
  values.backend().copy_out(arena.get(), values.view().data, std::int64_t(bytes));
  std::vector<Piece> pieces = frozen_pieces(parameters, {arena.get(), bytes}, item);
  const int threads = usable_cores();
  parallel_for(std::int64_t(pieces.size()), threads, [&](std::int64_t i) {
    Sha256 hash;
    for (std::span<const std::uint8_t> part : pieces[std::size_t(i)].parts) hash.update(part);
    const auto digest = hash.finish();
    pieces[std::size_t(i)].hash.assign(digest.begin(), digest.end());
  });
  std::map<std::string, std::string> hashes;
  for (Piece& piece : pieces) hashes[piece.name] = std::move(piece.hash);
  return hashes;
}

}  // namespace

std::string FrozenProof::digest() const {
  std::vector<std::uint8_t> all;
  for (const auto& [name, hash] : hashes_) {
    all.insert(all.end(), name.begin(), name.end());
    all.push_back(0);
    all.insert(all.end(), hash.begin(), hash.end());
  }
  return sha256_hex(all);
}

FrozenProof FrozenProof::take(const ParameterSet& parameters) {
  FrozenProof proof;
  proof.hashes_ = frozen_hashes(parameters);
  for (const Parameter& p : parameters.parameters())
    for (std::int64_t k = 0; p.is_trainable && k < p.rows(); ++k) proof.channels_ += !channel_trains(p, k);
  return proof;
}

void FrozenProof::verify(const ParameterSet& parameters) const {
  const std::map<std::string, std::string> now = frozen_hashes(parameters);
  std::string changed;
  for (const auto& [name, hash] : hashes_) {
    const auto found = now.find(name);
    if (found == now.end() || found->second != hash) changed += (changed.empty() ? "" : ", ") + name;
  }
  if (!changed.empty())
    throw Error("frozen tensors changed during training: " + changed +
                "; this is a defect of graft, the results cannot be trusted");
}

}  // namespace graft
