// The tensors of a checkpoint by name, whatever its format.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/tensor.h"

namespace sluice::model {

class TensorSource {
 public:
  TensorSource() = default;
  virtual ~TensorSource() = default;
  TensorSource(const TensorSource&) = delete;
  TensorSource& operator=(const TensorSource&) = delete;

  virtual bool contains(std::string_view name) const = 0;
  // Throws Error naming file and tensor if there is none of that name or it is of a type that isn't read.
  virtual const TensorView& tensor(std::string_view name) const = 0;
  // The file that holds `name`, for messages.
  virtual const std::filesystem::path& path_of(std::string_view name) const = 0;
  // All names, those of unreadable types included, sorted.
  virtual std::vector<std::string> names() const = 0;
  // Bytes of all readable tensors.
  virtual std::size_t total_bytes() const = 0;
};

}  // namespace sluice::model
