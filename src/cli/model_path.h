// Where MODEL is.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace sluice::cli {

// The folder that `model` means. In this order: a folder that exists; an id ORGANISATION/NAME in the local Hugging Face
// cache; without `model` the bundled one: $SLUICE_MODEL_PATH (a list of folders, each a model or a folder that has the
// model "demo" in it), then models/demo beside or above the program's own folder, then the installed one.
// `needed` is the file that makes a folder a model here ("config.json", or "tokenizer.json" where no weights are
// wanted). Throws Error that says what is missing and how to get it, UsageError if `model` looks like a prompt.
std::filesystem::path find_model(const std::optional<std::string>& model,
                                 const std::string& needed = "config.json");

}  // namespace sluice::cli
