#include "cli/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "base/mapped_file.h"
#include "cli/exit.h"
#include "cli/model_folder.h"
#include "model/gguf.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBundled = "demo";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// False if nothing has that name. Throws Error if that can't be told, as in a folder that may not be entered.
bool can_be_found(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  // Text that is too long for a name may be a prompt.
  if (status.type() == fs::file_type::none && error != std::errc::filename_too_long)
    throw Error("can't open: " + error.message(), path.string(), "is it there, and may you read it?");
  return fs::exists(status);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// The model in `folder`; nothing if it has none.
std::optional<fs::path> model_in(const fs::path& folder, const std::string& needed) {
  if (const auto gguf = gguf_in(folder)) return gguf;
  if (can_be_found(folder / needed)) return folder;
  return std::nullopt;
}

// Hugging Face's cache (huggingface_hub, "Manage your cache"): hub/models--ORGANISATION--NAME/refs/main holds the name
// of a folder under snapshots/.
fs::path cache_folder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const std::string hub = environment(name); !hub.empty()) return hub;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface" / "hub";
  return fs::path(environment("HOME")) / ".cache" / "huggingface" / "hub";
}

// Of what a snapshot in safetensors has. Its files are links to blobs; one is missing if the download was broken off.
std::optional<fs::path> file_without_blob(const fs::path& snapshot) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(snapshot, ignored)) {
    const fs::path extension = entry.path().extension();
    const bool is_read = extension == ".safetensors" || extension == ".json";
    if (is_read && entry.is_symlink(ignored) && !can_be_found(entry.path())) return entry.path();
  }
  return std::nullopt;
}

bool is_id_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == '-';
}

// "Qwen/Qwen3.5-0.8B"
bool looks_like_id(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash == 0 || slash == std::string_view::npos || slash + 1 == text.size()) return false;
  const auto good = [](std::string_view part) {
    return part.front() != '.' && std::all_of(part.begin(), part.end(), is_id_character);
  };
  return good(text.substr(0, slash)) && good(text.substr(slash + 1));
}

bool looks_like_prompt(std::string_view text) {
  return text.empty() || text.find_first_of(" \n\t?!") != std::string_view::npos;
}

fs::path find_in_cache(const std::string& id, const std::string& needed) {
  const std::size_t slash = id.find('/');
  const fs::path cache = cache_folder();
  const fs::path folder = cache / ("models--" + id.substr(0, slash) + "--" + id.substr(slash + 1));
  const std::string download = "download it with: hf download " + id;
  const fs::path reference = folder / "refs" / "main";
  if (!can_be_found(reference))
    throw Error(id + " is not in the Hugging Face cache", cache.string(), download);

  constexpr std::size_t kMaxNameBytes = 256;
  std::string revision = read_text_file(reference, kMaxNameBytes);
  while (!revision.empty() && (revision.back() == '\n' || revision.back() == '\r')) revision.pop_back();
  if (revision.empty() || revision.front() == '.' ||
      !std::all_of(revision.begin(), revision.end(), is_id_character)) {
    throw Error("not the name of a snapshot", reference.string(), download);
  }
  const fs::path snapshot = folder / "snapshots" / revision;
  const auto model = is_folder(snapshot) ? model_in(snapshot, needed) : std::nullopt;
  if (!model)
    throw Error(fmt::format("{} is only partly in the Hugging Face cache: no {}", id, needed),
                snapshot.string(), download);
  const auto file = is_folder(*model) ? file_without_blob(snapshot) : std::nullopt;
  if (file)
    throw Error(fmt::format("{} is only partly in the Hugging Face cache: a link to nothing", id),
                file->string(), download);
  return *model;
}

std::vector<fs::path> bundled_places() {
  std::vector<fs::path> places;
  const std::string list = environment("SLUICE_MODEL_PATH");
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(':', begin), list.size());
    if (const fs::path entry = list.substr(begin, end - begin); !entry.empty()) {
      places.push_back(entry);
      places.push_back(entry / kBundled);
    }
    begin = end + 1;
  }
  std::error_code error;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", error); !error) {
    const fs::path beside = program.parent_path();
    places.push_back(beside.parent_path() / "models" / kBundled);  // build tree
    places.push_back(beside / "models" / kBundled);
    places.push_back((beside / SLUICE_BIN_TO_DATA / "sluice/models" / kBundled).lexically_normal());
  }
  return places;
}

fs::path find_bundled(const std::string& needed) {
  const std::vector<fs::path> places = bundled_places();
  for (const fs::path& place : places) {
    if (is_folder(place)) {
      if (const auto model = model_in(place, needed)) return *model;
    } else if (model::is_gguf(place) && can_be_found(place)) {
      return place;
    }
  }
  throw Error("no model given, and the bundled one was not found",
              places.empty() ? std::string() : places.back().string(),
              "give MODEL, or set SLUICE_MODEL_PATH to a model's folder");
}

}  // namespace

fs::path find_model(const std::optional<std::string>& model, const std::string& needed) {
  if (!model) return find_bundled(needed);
  fs::path path = *model;
  if (is_folder(path)) {
    if (const auto found = model_in(path, needed)) return *found;
    throw Error(fmt::format("no {} in the model's folder", needed), path.string(),
                "give a folder with config.json, tokenizer.json and safetensors, or a .gguf file");
  }
  if (can_be_found(path)) {
    if (model::is_gguf(path)) return path;
    throw Error("MODEL is a file", path.string(), "give its folder, or a .gguf file");
  }
  if (looks_like_prompt(*model)) {
    throw UsageError("no such MODEL", fmt::format("\"{}\"", *model), "if it is the prompt, give it with -p");
  }
  if (looks_like_id(*model) && !model::is_gguf(path)) return find_in_cache(*model, needed);
  throw Error("no such MODEL", path.string(),
              "give a folder, a .gguf file, an id such as Qwen/Qwen3.5-0.8B, or nothing for the bundled "
              "model (a prompt: -p)");
}

}  // namespace sluice::cli
