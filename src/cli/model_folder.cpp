#include "cli/model_folder.h"

#include <algorithm>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "model/gguf.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// "NAME-*-of-00003.gguf" for "NAME-00001-of-00003.gguf", the way in which llama.cpp names the parts of a split file; any
// other name as it is.
std::string name_of_set(const std::string& name) {
  constexpr std::string_view kExtension = ".gguf";
  constexpr std::string_view kOf = "-of-";
  constexpr std::size_t kDigits = 5;
  constexpr std::size_t kTail = 1 + kDigits + kOf.size() + kDigits + kExtension.size();
  if (name.size() <= kTail || !name.ends_with(kExtension)) return name;
  const std::string_view tail = std::string_view(name).substr(name.size() - kTail);
  const bool is_part = tail[0] == '-' && is_digits(tail.substr(1, kDigits)) &&
                       tail.substr(1 + kDigits, kOf.size()) == kOf &&
                       is_digits(tail.substr(1 + kDigits + kOf.size(), kDigits));
  if (!is_part) return name;
  return name.substr(0, name.size() - kTail) + "-*" + std::string(tail.substr(1 + kDigits));
}

// The names of the files in `folder`, sorted.
std::vector<std::string> names_in(const fs::path& folder, std::error_code& error) {
  std::vector<std::string> names;
  auto entry = fs::directory_iterator(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::ranges::sort(names);
  return names;
}

bool is_weights(const std::string& name) {
  return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
}

// Weights, their index, configs, the tokenizer, a chat template.
bool is_read_from_folder(const std::string& name) {
  return name.ends_with(".safetensors") || name.ends_with(".json") || name.ends_with(".jinja");
}

}  // namespace

std::optional<fs::path> gguf_in(const fs::path& folder) {
  std::error_code error;
  const std::vector<std::string> names = names_in(folder, error);
  if (error) throw Error("can't read: " + error.message(), folder.string(), "may you read it?");
  if (std::ranges::any_of(names, is_weights)) return std::nullopt;

  std::map<std::string, std::string> first_of_set;  // names are sorted, so a set's first part comes first
  for (const std::string& name : names)
    if (model::is_gguf(name) && !name.starts_with("mmproj")) first_of_set.emplace(name_of_set(name), name);
  if (first_of_set.empty()) return std::nullopt;
  if (first_of_set.size() == 1) return folder / first_of_set.begin()->second;

  constexpr std::size_t kMostListed = 12;
  std::vector<std::string> listed;
  for (const auto& [set, first] : first_of_set)
    if (listed.size() < kMostListed) listed.push_back(first);
  if (first_of_set.size() > kMostListed) listed.emplace_back("...");
  throw Error(fmt::format("the folder has {} GGUF models: {}", first_of_set.size(), fmt::join(listed, ", ")),
              folder.string(), "give one of them as MODEL");
}

std::vector<fs::path> files_of_model(const fs::path& path) {
  std::error_code error;
  const bool file = model::is_gguf(path) && !fs::is_directory(path, error);
  const fs::path folder = !file ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string set = name_of_set(path.filename().string());
  std::vector<fs::path> files;
  for (const std::string& name : names_in(folder, error))
    if (file ? name_of_set(name) == set : is_read_from_folder(name)) files.push_back(folder / name);
  return files;
}

std::size_t weight_file_bytes(const fs::path& path) {
  std::size_t total = 0;
  for (const fs::path& file : files_of_model(path)) {
    if (!model::is_gguf(file) && file.extension() != ".safetensors") continue;
    std::error_code ignored;
    const std::uintmax_t size = fs::file_size(file, ignored);
    if (!ignored) total += static_cast<std::size_t>(size);  // at most what a file system holds
  }
  return total;
}

}  // namespace sluice::cli
