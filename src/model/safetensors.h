// The safetensors format, memory-mapped: an 8-byte little-endian header length, a JSON header that gives name
// → {dtype, shape, data_offsets}, then the data (huggingface/safetensors, README "Format").
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "base/mapped_file.h"
#include "model/tensor.h"

namespace sluice::model {

class Safetensors {
 public:
  // Throws Error naming file, tensor and expectation if the file is truncated, its header is not what the
  // format says, offsets leave the file, overlap or leave holes, or a tensor's byte count is not its shape's.
  // A tensor of a type we don't read is remembered by name only; asking for it is the error.
  explicit Safetensors(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  bool contains(std::string_view name) const;
  // As MappedFile::check_intact.
  void check_intact() const { file_.check_intact(); }
  const MappedFile& file() const { return file_; }
  // Throws Error if there is none of that name or its type isn't F32, F16 or BF16.
  const TensorView& tensor(std::string_view name) const;
  // Readable tensors by name.
  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  // The others: name → dtype as the header gives it.
  const std::map<std::string, std::string, std::less<>>& unreadable() const { return unreadable_; }

 private:
  MappedFile file_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unreadable_;  // name → dtype
};

}  // namespace sluice::model
