#include "model/checkpoint_files.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/json_reader.h"
#include "base/mapped_file.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxIndexBytes = std::size_t{64} << 20U;
// Large mixtures of experts list 100,000 tensors in a few hundred shards.
constexpr std::size_t kMaxIndexValues = std::size_t{1} << 19U;
constexpr std::size_t kMaxShards = 10'000;
constexpr const char* kIndexName = "model.safetensors.index.json";

// A name that can't lead out of the folder.
bool is_plain_name(std::string_view name) {
  return name.ends_with(".safetensors") &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// What an index says, in the order of the names.
struct Index {
  std::vector<std::string> shards;
  struct Tensor {
    std::string name;
    std::size_t shard = 0;  // in `shards`
  };
  std::vector<Tensor> tensors;
};

class IndexFile {
 public:
  IndexFile(std::string_view text, const std::string& where)
      : where_(where), reader_(text, where, {.depth = 64, .values = kMaxIndexValues}) {}

  Index read() {
    bool found = false;
    Json::object_t others;  // to see keys that stand there twice
    if (reader_.kind() != Kind::kObject) fail_map();
    reader_.object([&](std::string_view key) {
      const auto [place, is_new] = others.try_emplace(std::string(key));
      if (!is_new) reader_.fail_twice(key);
      if (place->first != "weight_map" || reader_.kind() != Kind::kObject) {
        place->second = reader_.tree();
        return;
      }
      found = true;
      reader_.object([this](std::string_view name) { read_tensor(std::string(name)); });
    });
    reader_.end();
    if (!found || index_.tensors.empty()) fail_map();
    const auto less = [](const Index::Tensor& a, const Index::Tensor& b) { return a.name < b.name; };
    std::sort(index_.tensors.begin(), index_.tensors.end(), less);
    const auto twice = std::adjacent_find(index_.tensors.begin(), index_.tensors.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice != index_.tensors.end()) reader_.fail_twice(twice->name);
    return std::move(index_);
  }

 private:
  using Kind = JsonReader::Kind;

  [[noreturn]] void fail_map() const {
    throw Error("weight_map is missing, empty or not an object", where_, "expected tensor name → file name");
  }

  void read_tensor(std::string name) {
    const std::string_view shard = reader_.kind() == Kind::kString ? reader_.string() : std::string_view();
    if (!is_plain_name(shard))
      throw Error("weight_map." + printable(name, 200) + " is not a plain file name", where_,
                  "expected a .safetensors file beside the index");
    auto place = number_of_.find(shard);
    if (place == number_of_.end()) {
      if (index_.shards.size() == kMaxShards)
        throw Error("weight_map names more than " + std::to_string(kMaxShards) + " files", where_,
                    "is it the right file?");
      place = number_of_.emplace(shard, index_.shards.size()).first;
      index_.shards.emplace_back(shard);
    }
    index_.tensors.push_back({std::move(name), place->second});
  }

  const std::string& where_;
  JsonReader reader_;
  Index index_;
  std::map<std::string, std::size_t, std::less<>> number_of_;  // of each shard
};

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

void CheckpointFiles::add_shards(const std::filesystem::path& path) {
  const std::string where = path.string();
  const Index index = IndexFile(read_text_file(path, kMaxIndexBytes), where).read();
  std::map<std::string, std::size_t> file_number;
  for (const std::string& shard : index.shards) file_number.emplace(shard, 0);
  for (auto& [shard, number] : file_number) {
    number = files_.size();
    add(folder_ / shard);
  }
  for (const Index::Tensor& tensor : index.tensors) {
    const std::string& shard = index.shards[tensor.shard];
    const auto found = file_of_.find(tensor.name);
    if (found == file_of_.end() || found->second != file_number.at(shard))
      throw Error(
          "weight_map." + printable(tensor.name, 200) + " names " + shard + ", which has no such tensor",
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

void CheckpointFiles::check_intact() const {
  for (const Safetensors& file : files_) file.check_intact();
}

std::vector<const MappedFile*> CheckpointFiles::files() const {
  std::vector<const MappedFile*> files;
  files.reserve(files_.size());
  for (const Safetensors& file : files_) files.push_back(&file.file());
  return files;
}

}  // namespace sluice::model
