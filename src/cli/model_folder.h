// What a model's folder holds: safetensors, or GGUF files of which one is meant.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <vector>

namespace sluice::cli {

// The GGUF that `folder` stands for: nothing if it has safetensors or no GGUF, its only one, or the first part of its
// only split one. Throws Error that lists them if there are several, or if the folder can't be read.
std::optional<std::filesystem::path> gguf_in(const std::filesystem::path& folder);

// The files that the model at `path`, a folder or a .gguf file, consists of, and others of its folder that may be read with
// them. What can't be seen is left out.
std::vector<std::filesystem::path> files_of_model(const std::filesystem::path& path);

// Bytes of the files that loading the model at `path`, a folder or a .gguf file, maps into memory. What can't be seen
// counts nothing.
std::size_t weight_file_bytes(const std::filesystem::path& path);

}  // namespace sluice::cli
