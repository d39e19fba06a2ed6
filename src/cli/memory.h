// How much memory is left, asked before much of it is taken.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "model/config.h"

namespace sluice::cli {

// Bytes that this process may still take: what the kernel calls available, and what the control groups above us leave.
// Nothing where neither is known.
std::optional<std::size_t> free_memory();

// Throws Error "needs 3.1 GB, 2.0 GB free" if a sequence of `context` positions of such a model on the oracle (fp32
// state, fp32 keys and values), and `extra_bytes`, don't fit. Weights are mapped: pages that don't fit are read again,
// so they don't count.
void check_memory(const model::ModelConfig& config, std::size_t context, std::size_t extra_bytes);

// "1.75 GB", "12.3 kB", "999 B"
std::string bytes_text(std::size_t bytes);

}  // namespace sluice::cli
