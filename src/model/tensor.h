// A tensor as it lies in a checkpoint: a name, a type, a shape, and bytes that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

enum class DType : std::uint8_t { kF32, kF16, kBF16 };

std::string_view name_of(DType type);  // "F32", "F16", "BF16"

// Bytes of `n` elements of `type`.
std::size_t bytes_of(DType type, std::size_t n);

// Converts out.size() elements, starting with element `first` of `data`, to fp32 (exactly).
void to_float(DType type, std::span<const std::byte> data, std::size_t first, std::span<float> out);

struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::size_t> shape;  // row-major; the last dimension is contiguous
  std::span<const std::byte> data;

  std::size_t size() const;  // elements; readers have checked that this can't overflow
};

// "[3584, 1024]"
std::string shape_text(std::span<const std::size_t> shape);

}  // namespace sluice::model
