// How much memory a command takes and how much there is, asked before much of it is taken.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "model/config.h"

namespace sluice::cli {

// Of the cpu device. It holds its weights packed.
struct CpuMemory {
  std::size_t packed_bytes = 0;
  std::size_t rows = 1;  // that one step feeds
  std::size_t threads = 1;
};

// What a device allocates for one sequence, and the program beside it. Weights are mapped: pages that don't fit are read
// again, so of the free memory they take nothing; but a limit on the address space counts them. Keys and values count for the
// whole context: on the cpu they are taken as the sequence grows, but this is what it may come to.
struct MemoryPlan {
  std::size_t context = 0;                      // positions of the sequence
  std::size_t rows = 1;                         // whose logits one step returns
  std::size_t mapped_bytes = 0;                 // of weight files
  std::size_t other_bytes = 0;                  // the tokenizer's, the ids', ...
  std::size_t text_bytes = 0;                   // of other_bytes, what a shorter text would save
  const char* what_helps = nullptr;             // "use -c {} or less": {} is the largest context that fits
  std::optional<CpuMemory> cpu = std::nullopt;  // nothing: the oracle
};

// What the cpu device keeps of a row between the ops of a step: residual, projections, mixed, gated.
std::size_t activation_bytes(const model::ModelConfig& config);

// `resident`: bytes that are written. `reserved`: bytes that are asked for; a growing vector asks for up to twice what it
// holds. Both at their peak, and both cut at the largest number.
struct MemoryNeed {
  std::size_t resident = 0;
  std::size_t reserved = 0;
};

MemoryNeed memory_need(const model::ModelConfig& config, const MemoryPlan& plan);

// Throws Error "needs 3.1 GB, 2.0 GB free" unless the need fits into what the kernel calls available and the control
// groups above us leave (resident), and into the limits RLIMIT_DATA and RLIMIT_AS of this process (reserved).
void check_memory(const model::ModelConfig& config, const MemoryPlan& plan);

// Whether it does.
bool memory_fits(const model::ModelConfig& config, const MemoryPlan& plan);

// Throws Error of the same kind unless what loading copies of the checkpoint fits: norms, convolutions and other vectors. They are
// small, but a file may say that they are as large as it likes: zeros take no room on the disk.
void check_loading(const model::ModelConfig& config);

constexpr const char* kShorterText = "close other programs, raise the limit, or give a shorter text";

// Throws Error of the same kind unless so many more bytes fit, written and reserved.
void check_bytes(std::size_t bytes, std::string_view advice);

// Whether they do.
bool bytes_fit(std::size_t bytes);

// What reading the tokenizer at `path`, a folder or a .gguf file, takes at its peak: an estimate from the size of its lists.
// 0 if that can't be told.
std::size_t tokenizer_bytes(const std::filesystem::path& path);

// The size of the text that -f gives, or standard input without it, as far as it is asked for (input.h); 0 if it is no
// regular file.
std::size_t input_bytes(const std::optional<std::string>& file);

// Throws Error unless that text can be read.
void check_reading(const std::optional<std::string>& file);

// Throws Error unless `text` can be turned into token ids.
void check_encoding(std::string_view text);

// "1.75 GB", "12.3 kB", "999 B"
std::string bytes_text(std::size_t bytes);

}  // namespace sluice::cli
