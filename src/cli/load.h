// From options to something that runs: the model's weights, a context, a backend.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>

#include "cli/common_options.h"
#include "model/weights.h"
#include "program/backend.h"

namespace sluice::cli {

// Loads with a progress bar, if it takes long. Throws Interrupted on Ctrl-C.
model::Model load(const std::filesystem::path& folder);

// -c if given, else `preferred`, cut to what the model was made for. Throws UsageError if -c is more than that.
std::size_t choose_context(const CommonOptions& options, const model::ModelConfig& config,
                           std::size_t preferred);

// A backend on the chosen device with one slot. `model` must outlive it.
std::unique_ptr<program::Backend> make_backend(const CommonOptions& options, const model::Model& model,
                                               std::size_t context);

// Rows a step while a prompt is fed. The oracle goes row by row whatever a step holds, so longer steps would only
// make Ctrl-C and the progress bar wait.
constexpr std::size_t kRowsPerStep = 1;

// The context of `run` and of `inspect`'s decode step, unless -c says otherwise.
constexpr std::size_t kDefaultContext = 4096;

}  // namespace sluice::cli
