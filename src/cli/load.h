// From options to something that runs: the model's weights, a context, a backend.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>

#include "cli/common_options.h"
#include "cli/memory.h"
#include "cpu/backend.h"
#include "cuda/backend.h"
#include "model/weights.h"
#include "program/backend.h"

namespace sluice::cli {

// Maps the model at `path`, a folder or a .gguf file, without reading its matrices; a progress bar shows if that takes
// long. Warns of tensors that the language model should know and doesn't. Throws Interrupted on Ctrl-C. Whether there
// is room for the vectors that are copied is for check_memory or check_loading to tell.
model::Model load(const std::filesystem::path& path);

// -c if given, else `preferred`, cut to what the model was made for. Throws UsageError if -c is more than that.
std::size_t choose_context(const CommonOptions& options, const model::ModelConfig& config,
                           std::size_t preferred);

// A backend on the chosen device with one slot. `model` must outlive it. Reads every weight, or what was packed of them
// before: Error if one is infinite or not a number. Error "needs 3.1 GB, 2.0 GB free" if the memory isn't there. Throws
// Interrupted on Ctrl-C. A step throws Error if a file of the model has shrunk meanwhile. A cpu device notes in `trace`, which
// must outlive it, what its workers do. `other_bytes`: of what is read side by side and will take memory, too.
std::unique_ptr<program::Backend> make_backend(const CommonOptions& options, const model::Model& model,
                                               std::size_t context, cpu::Trace* trace = nullptr,
                                               std::size_t other_bytes = 0);

// The same of a GPU, or of the PTX machine as one, with so many slots, before the weights are looked at.
std::unique_ptr<cuda::Backend> make_gpu_backend(const CommonOptions& options, const model::Model& model,
                                                std::size_t n_slots, std::size_t context);

// What its weights take when they are packed; with a screened head's narrower copy on top.
std::size_t packed_bytes(const model::Model& model, bool is_screened);

// What the cpu device will take for a model of this config, as far as the config tells: at least so much; and what a GPU takes of
// the host's memory. Nothing for the oracle.
std::optional<CpuMemory> cpu_memory(const CommonOptions& options, const model::ModelConfig& config);

// Shows progress bars, throws Interrupted on Ctrl-C and prints warnings while a cpu backend is made. To be used once.
cpu::LoadEvents show_loading();

// What the options and the environment (SLUICE_ISA, SLUICE_VERIFY) say of the CPU device. Throws Error if SLUICE_VERIFY is neither
// 1, nor 0, empty or absent.
cpu::CpuOptions cpu_options(const CommonOptions& options);

// Rows a step while a prompt is fed: so many that what they work in stays small beside the weights. The oracle goes row by row
// whatever a step holds, so longer steps would only make the progress bar wait.
std::size_t rows_per_step(const CommonOptions& options, const model::ModelConfig& config);

// The same where a step returns the logits of all its rows, which are large.
std::size_t rows_per_step_of_logits(const CommonOptions& options, const model::ModelConfig& config);

// The context of `run` and of `inspect`'s decode step, unless -c says otherwise.
constexpr std::size_t kDefaultContext = 4096;

}  // namespace sluice::cli
