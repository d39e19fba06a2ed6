// A file of packed weights: what packing would make, kept for the next start.
//
//   bytes 0..7   "SLUICEPK"
//   64-bit words, little-endian: version of this format; key of the content, low and high; fingerprint of the layout, low and
//                high; bytes of data; bytes of a chunk; check of all words before and of the chunks' checks
//   one word for each chunk: the low half of its XXH3-128
//   zeros up to a multiple of 4096, then the data: chunks of 1 MB, the last one shorter
//
// A reader believes nothing that doesn't agree with what it knows beforehand, and checks every byte.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "base/hash.h"
#include "cpu/load_events.h"
#include "cpu/packing_plan.h"
#include "cpu/workers.h"

namespace sluice::cpu {

class PackedFile {
 public:
  // `content`: of the model's files (content_key.h). `plan` must outlive this.
  PackedFile(std::filesystem::path path, Hash128 content, const PackingPlan& plan, Hash128 fingerprint);

  // Fills `block`, of plan.bytes(). False if there is no such file. Throws Error if it can't be read or isn't what was
  // written; `block` then holds anything.
  bool read(Workers& workers, const LoadEvents& events, std::span<std::byte> block) const;

  // Puts a new file in the place of what was there, whole or not at all, however many processes do the same. Throws Error if
  // that can't be; nothing is left behind then.
  void write(Workers& workers, const LoadEvents& events, std::span<const std::byte> block) const;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  Hash128 content_;
  Hash128 fingerprint_;
  const PackingPlan& plan_;
};

}  // namespace sluice::cpu
