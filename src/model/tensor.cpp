#include "model/tensor.h"

#include <cstring>

#include "base/bf16.h"
#include "base/error.h"
#include "model/ggml_blocks.h"

namespace sluice::model {
namespace {

// How a type lies in memory: `bytes` hold `elements`.
struct Layout {
  std::string_view name;
  std::size_t elements;
  std::size_t bytes;
};

Layout layout_of(DType type) {
  switch (type) {
    case DType::kF32:
      return {"F32", 1, 4};
    case DType::kF16:
      return {"F16", 1, 2};
    case DType::kBF16:
      return {"BF16", 1, 2};
    case DType::kQ8_0:
      return {"Q8_0", 32, 34};
    case DType::kQ4_0:
      return {"Q4_0", 32, 18};
    case DType::kQ4_1:
      return {"Q4_1", 32, 20};
    case DType::kQ5_0:
      return {"Q5_0", 32, 22};
    case DType::kQ5_1:
      return {"Q5_1", 32, 24};
    case DType::kQ4_K:
      return {"Q4_K", 256, 144};
    case DType::kQ5_K:
      return {"Q5_K", 256, 176};
    case DType::kQ6_K:
      return {"Q6_K", 256, 210};
    case DType::kIQ4_NL:
      return {"IQ4_NL", 32, 18};
    case DType::kIQ4_XS:
      return {"IQ4_XS", 256, 136};
  }
  return {"?", 1, 1};  // no type of the enumeration
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
  return layout_of(type).name;
}

std::size_t block_size(DType type) {
  return layout_of(type).elements;
}

std::size_t bytes_of(DType type, std::size_t n) {
  const Layout layout = layout_of(type);
  SLUICE_CHECK(n % layout.elements == 0);
  return n / layout.elements * layout.bytes;
}

void to_float(DType type, std::span<const std::byte> data, std::size_t first, std::span<float> out) {
  const Layout layout = layout_of(type);
  const std::size_t available = data.size() / layout.bytes * layout.elements;
  SLUICE_CHECK(first <= available && out.size() <= available - first);
  const std::span<const std::byte> from = data.subspan(bytes_of(type, first), bytes_of(type, out.size()));
  if (out.empty()) return;
  switch (type) {
    case DType::kF32:
      std::memcpy(out.data(), from.data(), out.size_bytes());
      return;
    case DType::kF16:
      convert_16(from.data(), out, f16_to_float);
      return;
    case DType::kBF16:
      convert_16(from.data(), out, bf16_to_float);
      return;
    default:
      dequantize(type, from, out);
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
