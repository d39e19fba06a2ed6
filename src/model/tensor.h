// A tensor as it lies in a checkpoint: a name, a type, a shape, and bytes that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

// Element types: three plain ones, and ggml's quantized blocks (ggml_blocks.h), which only GGUF files hold.
enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
};

std::string_view name_of(DType type);  // "F32", "BF16", "Q4_K", ...

// Elements that are stored together: 1 for plain types, 32 or 256 for quantized ones.
std::size_t block_size(DType type);

// Bytes of `n` elements of `type`; n is a multiple of block_size(type).
std::size_t bytes_of(DType type, std::size_t n);

// Converts out.size() elements, starting with element `first` of `data`, to fp32: exactly for plain types, by the
// block's formula in fp32 for quantized ones. `first` and out.size() are multiples of block_size(type).
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
