// The safetensors files of a folder as one set of tensors: `model.safetensors`, or the single shard of
// Qwen3.5's small models, or shards that `model.safetensors.index.json` lists.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/safetensors.h"
#include "model/storage.h"
#include "model/tensor_source.h"

namespace sluice::model {

class CheckpointFiles final : public TensorSource, public Storage {
 public:
  // Throws Error if there is no such file, one of them is damaged, the index names a tensor that its shard
  // doesn't hold or a file that is not a plain name, or two shards hold the same tensor.
  explicit CheckpointFiles(const std::filesystem::path& folder);

  bool contains(std::string_view name) const override { return file_of_.contains(name); }
  // Throws Error naming the file (the folder if no file has it) as Safetensors::tensor does.
  const TensorView& tensor(std::string_view name) const override;
  // The file that holds `name`, for messages; the folder if none does.
  const std::filesystem::path& path_of(std::string_view name) const override;
  std::vector<std::string> names() const override;
  std::size_t total_bytes() const override;
  void check_intact() const override;
  std::vector<const MappedFile*> files() const override;

 private:
  void add(const std::filesystem::path& path);
  void add_shards(const std::filesystem::path& path);  // of the index

  std::filesystem::path folder_;
  std::vector<Safetensors> files_;
  std::map<std::string, std::size_t, std::less<>> file_of_;  // name → index into files_
};

}  // namespace sluice::model
