#include "model/checkpoint_files.h"

#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxIndexBytes = 100'000'000;
constexpr const char* kIndexName = "model.safetensors.index.json";

// A name that can't lead out of the folder.
bool is_plain_name(const std::string& name) {
  return name.ends_with(".safetensors") && name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

}  // namespace

CheckpointFiles::CheckpointFiles(const std::filesystem::path& folder) : folder_(folder) {
  for (const char* name : {"model.safetensors", "model.safetensors-00001-of-00001.safetensors",
                           "model-00001-of-00001.safetensors"}) {
    if (!is_there(folder / name)) continue;
    add(folder / name);
    return;
  }
  if (!is_there(folder / kIndexName))
    throw Error("no model.safetensors and no " + std::string(kIndexName), folder.string(),
                "expected a folder with config.json and safetensors");
  add_shards(folder / kIndexName);
}

void CheckpointFiles::add(const std::filesystem::path& path) {
  files_.emplace_back(path);
  const auto insert = [&](const std::string& name) {
    const auto [place, is_new] = file_of_.emplace(name, files_.size() - 1);
    if (!is_new)
      throw Error("tensor " + printable(name, 200) + " stands in " + path.filename().string() + " too",
                  files_[place->second].path().string(), "expected every tensor in one shard only");
  };
  for (const auto& [name, view] : files_.back().tensors()) insert(name);
  for (const auto& [name, dtype] : files_.back().unreadable()) insert(name);
}

void CheckpointFiles::add_shards(const std::filesystem::path& index) {
  const std::string where = index.string();
  const Json json = parse_json(read_text_file(index, kMaxIndexBytes), where);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty())
    throw Error("weight_map is missing, empty or not an object", where, "expected tensor name → file name");
  std::set<std::string> shards;
  for (const auto& item : map->items()) {
    if (!item.value().is_string() || !is_plain_name(item.value().get<std::string>()))
      throw Error("weight_map." + printable(item.key(), 200) + " is not a plain file name", where,
                  "expected a .safetensors file beside the index");
    shards.insert(item.value().get<std::string>());
  }
  for (const std::string& shard : shards) add(folder_ / shard);
  for (const auto& item : map->items()) {
    const auto found = file_of_.find(item.key());
    if (found == file_of_.end() || files_[found->second].path().filename() != item.value().get<std::string>())
      throw Error("weight_map." + printable(item.key(), 200) + " names " + item.value().get<std::string>() +
                      ", which has no such tensor",
                  where, "the checkpoint is incomplete");
  }
}

const TensorView& CheckpointFiles::tensor(std::string_view name) const {
  const auto found = file_of_.find(name);
  if (found != file_of_.end()) return files_[found->second].tensor(name);
  throw Error("no tensor " + printable(name, 200), path_of(name).string(),
              "the checkpoint is incomplete or of another model");
}

const std::filesystem::path& CheckpointFiles::path_of(std::string_view name) const {
  const auto found = file_of_.find(name);
  if (found != file_of_.end()) return files_[found->second].path();
  return files_.size() == 1 ? files_.front().path() : folder_;
}

std::vector<std::string> CheckpointFiles::names() const {
  std::vector<std::string> names;
  names.reserve(file_of_.size());
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

std::size_t CheckpointFiles::total_bytes() const {
  std::size_t total = 0;  // at most the files' sizes
  for (const Safetensors& file : files_)
    for (const auto& [name, view] : file.tensors()) total += view.data.size();
  return total;
}

}  // namespace sluice::model
