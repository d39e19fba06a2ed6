// The Programs of a device: made once for each shape, and kept while they are in use, if they don't take too much memory together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "model/config.h"
#include "program/builder.h"
#include "program/program.h"

namespace sluice::program {

// What of a shape decides tasks and waits: how the edges of spans, groups of rows and outputs lie between each other, not how many
// rows stand between them. Prompts of 9 to 64 rows are alike; so are those of 449 to 512.
std::vector<std::uint32_t> structure_of(const Program& program);

class Programs {
 public:
  // `config` must outlive them. `verify`: each is proven before it is handed out.
  Programs(const model::ModelConfig& config, const Tiling& tiling, bool verify)
      : config_(config), tiling_(tiling), verify_(verify) {}

  // The Program of `shape`; valid until the next call. Throws Error as `build` and `require_valid` do.
  const Program& of(const StepShape& shape);

  std::size_t n_made() const { return n_made_; }          // that weren't kept from before
  std::size_t n_derived() const { return n_derived_; }    // of these: whose waits were derived, not another's
  std::size_t n_verified() const { return n_verified_; }  // of the made ones

 private:
  struct Kept {
    Program program;
    std::vector<std::uint32_t> structure;
  };
  Kept make(const StepShape& shape);

  const model::ModelConfig& config_;
  Tiling tiling_;
  bool verify_;
  std::list<Kept> kept_;  // the one used last first
  std::size_t n_made_ = 0;
  std::size_t n_derived_ = 0;
  std::size_t n_verified_ = 0;
};

}  // namespace sluice::program
