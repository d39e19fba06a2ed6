// What names the content of a model's files, wherever they lie and whatever they are called.
#pragma once

#include <vector>

#include "base/hash.h"
#include "base/mapped_file.h"
#include "cpu/load_events.h"
#include "cpu/workers.h"

namespace sluice::cpu {

// Reads all bytes of the files, in the files' order, and gives their pages back. Doesn't depend on the number of workers.
Hash128 content_key(const std::vector<const MappedFile*>& files, Workers& workers, const LoadEvents& events);

}  // namespace sluice::cpu
