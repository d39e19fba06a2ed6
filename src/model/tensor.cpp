#include "model/tensor.h"

#include <cstring>

#include "base/bf16.h"
#include "base/error.h"

namespace sluice::model {
namespace {

std::size_t element_size(DType type) {
  return type == DType::kF32 ? sizeof(float) : sizeof(std::uint16_t);
}

// Tensors in a file stand at any byte offset, so every element is copied out rather than pointed at.
template <typename Convert>
void convert_16(const std::byte* from, std::span<float> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
    out[i] = convert(bits);
  }
}

}  // namespace

std::string_view name_of(DType type) {
  switch (type) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
  }
  return "?";
}

std::size_t bytes_of(DType type, std::size_t n) {
  return n * element_size(type);
}

void to_float(DType type, std::span<const std::byte> data, std::size_t first, std::span<float> out) {
  const std::size_t available = data.size() / element_size(type);
  SLUICE_CHECK(first <= available && out.size() <= available - first);
  if (out.empty()) return;
  const std::byte* from = data.data() + bytes_of(type, first);
  switch (type) {
    case DType::kF32:
      std::memcpy(out.data(), from, out.size_bytes());
      return;
    case DType::kF16:
      convert_16(from, out, f16_to_float);
      return;
    case DType::kBF16:
      convert_16(from, out, bf16_to_float);
      return;
  }
}

std::size_t TensorView::size() const {
  std::size_t n = 1;
  for (const std::size_t extent : shape) n *= extent;
  return n;
}

std::string shape_text(std::span<const std::size_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace sluice::model
