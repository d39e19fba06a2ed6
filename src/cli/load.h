// From options to something that runs: the model's weights, a context, a backend.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>

#include "cli/common_options.h"
#include "model/weights.h"
#include "program/backend.h"

namespace sluice::cli {

// Maps the model at `path`, a folder or a .gguf file, without reading its matrices; a progress bar shows if that takes
// long. Warns of tensors that the language model should know and doesn't. Throws Interrupted on Ctrl-C.
model::Model load(const std::filesystem::path& path);

// The same, and reads every weight: Error if one is infinite or not a number.
model::Model load_to_compute(const std::filesystem::path& path);

// -c if given, else `preferred`, cut to what the model was made for. Throws UsageError if -c is more than that.
std::size_t choose_context(const CommonOptions& options, const model::ModelConfig& config,
                           std::size_t preferred);

// A backend on the chosen device with one slot. `model` must outlive it. A step throws Error if a file of the model has
// shrunk meanwhile.
std::unique_ptr<program::Backend> make_backend(const CommonOptions& options, const model::Model& model,
                                               std::size_t context);

// Rows a step while a prompt is fed. The oracle goes row by row whatever a step holds, so longer steps would only
// make Ctrl-C and the progress bar wait.
constexpr std::size_t kRowsPerStep = 1;

// The context of `run` and of `inspect`'s decode step, unless -c says otherwise.
constexpr std::size_t kDefaultContext = 4096;

}  // namespace sluice::cli
