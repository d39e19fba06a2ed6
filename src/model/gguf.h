// The GGUF format, versions 2 and 3, memory-mapped: a magic, counts, key-value metadata, tensor descriptions, then
// the tensors' data, aligned (ggml-org/ggml, docs/gguf.md). Little-endian files only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "model/gguf_metadata.h"
#include "model/gguf_tensors.h"
#include "model/storage.h"
#include "model/tensor.h"

namespace sluice::model {

// True if `path` is meant as a GGUF file: by its name.
bool is_gguf(const std::filesystem::path& path);

class Gguf final : public Storage {
 public:
  // Opens one file, or all parts of a split one, given any of them ("NAME-00001-of-00003.gguf", metadata from the first).
  // Throws Error naming file, key or tensor and expectation if a file is truncated or not what the format says, a
  // key or tensor occurs twice, a tensor leaves the file, overlaps another, is misaligned, or its row is no whole
  // number of blocks, or a part of a split file is missing. A tensor of a type we don't read is remembered by name only.
  explicit Gguf(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return files_.front().path(); }

  // Metadata, as GgufMetadata: nothing if there is no such key, Error if it is of another type.
  const GgufMetadata& metadata() const { return metadata_; }
  bool has(std::string_view key) const { return metadata_.has(key); }
  std::optional<std::uint64_t> whole(std::string_view key) const { return metadata_.whole(key); }
  std::optional<double> number(std::string_view key) const { return metadata_.number(key); }
  std::optional<bool> flag(std::string_view key) const { return metadata_.flag(key); }
  std::optional<std::string_view> text(std::string_view key) const { return metadata_.text(key); }
  std::optional<std::vector<std::int64_t>> wholes(std::string_view key) const {
    return metadata_.wholes(key);
  }
  std::optional<std::vector<double>> numbers(std::string_view key) const { return metadata_.numbers(key); }
  std::optional<std::vector<std::string_view>> texts(std::string_view key) const {
    return metadata_.texts(key);
  }

  // Tensors. Shapes are row-major, i.e. GGUF's dimensions reversed: [out, in].
  bool contains(std::string_view name) const;
  // Throws Error if there is none of that name, or if its type isn't read; that names the type.
  const TensorView& tensor(std::string_view name) const;
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& unreadable() const {
    return unreadable_;
  }  // name → type
  // The part that holds `name`, for messages; the first if none does.
  const std::filesystem::path& path_of(std::string_view name) const;

  void check_intact() const override;
  std::vector<const MappedFile*> files() const override;

 private:
  // Opens the parts of the split file that `given` belongs to, by the metadata of `given`.
  void open_parts(const std::filesystem::path& given, const GgufMetadata& metadata);
  // Takes over `file` as the next part. `data_begin`: where its tensors' offsets count from.
  void add(MappedFile file, std::span<const GgufTensor> tensors, std::size_t data_begin);

  std::vector<MappedFile> files_;
  GgufMetadata metadata_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unreadable_;
  std::map<std::string, std::size_t, std::less<>> later_;  // name → index into files_, if that isn't 0
};

}  // namespace sluice::model
