// How long a model takes to load from files that are in the system's cache, beside how long those files take to be read into
// fresh memory: by as many threads, in large pieces, into memory of the same kind.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/mapped_file.h"

namespace sluice::cli {

struct LoadFigure {
  std::size_t file_bytes = 0;
  std::size_t packed_bytes = 0;
  bool from_cache = false;           // the packed file was read (--cache)
  std::vector<double> seconds;       // of loading
  std::vector<double> read_seconds;  // of reading, taken between those

  double ratio() const;  // of the medians
};

// Reads the files once to have them cached, then takes turns between reading them and `load`. The last load stays.
LoadFigure measure_load(const std::vector<const MappedFile*>& files, std::size_t n_threads,
                        const std::function<void()>& load);

}  // namespace sluice::cli
