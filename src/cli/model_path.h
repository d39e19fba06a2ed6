// Where MODEL is.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace sluice::cli {

// The folder or .gguf file that `model` means. In this order: a file or folder that exists; an id ORGANISATION/NAME in the
// local Hugging Face cache; without `model` the bundled one: $SLUICE_MODEL_PATH (a list: each a model, or a folder that
// has the model "demo" in it), then models/demo beside or above the program's own folder, then the installed one.
//
// Of a folder: the folder itself if it has safetensors or no GGUF; else its only GGUF, or the first part of its only split
// one; several are an error that lists them. Vision projectors ("mmproj...") don't count.
//
// `needed` is the file that makes a folder without GGUF a model here ("config.json", or "tokenizer.json" where no
// weights are wanted). Throws Error that says what is missing and how to get it, UsageError if `model` looks like a
// prompt.
std::filesystem::path find_model(const std::optional<std::string>& model,
                                 const std::string& needed = "config.json");

}  // namespace sluice::cli
