// A folder of packed files, so that a model that was packed once is only read at the next start.
//
//   CONTENT-LAYOUT.packed   packed weights (packed_file.h). CONTENT names the bytes of the model's files (content_key.h), LAYOUT
//                           what becomes of them: a changed model or another way of packing has another name
//   IDENTITY.source         which content the files of this identity had (device, inode, size, times of modification and
//                           change), so that a start needn't read them to know it
//
// A file that changed within the last seconds before it was hashed might change again in the same tick of the clock that its
// times are taken from, so its identity isn't noted down; the next start hashes it again. Nothing in the folder is ever
// needed: whoever wants the room deletes it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/mapped_file.h"
#include "cpu/load_events.h"
#include "cpu/packed_file.h"
#include "cpu/packing_plan.h"
#include "cpu/workers.h"
#include "model/weights.h"

namespace sluice::cpu {

class PackedCache {
 public:
  // The folder need not be there yet.
  explicit PackedCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Fills `block` from the packed file; true. Without one, or if it is damaged (a warning): `pack` fills it, and it is written
  // to the folder; false. A folder that can't be read or written is a warning. Whatever `pack` or `events` throw is thrown
  // on. A model that comes from no files is packed.
  bool read_or_make(const model::Model& model, const PackingPlan& plan, Workers& workers,
                    const LoadEvents& events, std::span<std::byte> block,
                    const std::function<void()>& pack) const;

 private:
  std::filesystem::path folder_;
};

// For tests: whether files of these identities may be noted down at `now_ns`, by the clock of their times.
bool is_settled(const std::vector<FileIdentity>& files, std::int64_t now_ns);

}  // namespace sluice::cpu
