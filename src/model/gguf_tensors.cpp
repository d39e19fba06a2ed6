#include "model/gguf_tensors.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxNameBytes = 64;  // the format's limit

struct Readable {
  std::uint32_t number;
  DType type;
};

// ggml.h, enum ggml_type.
constexpr std::array<Readable, 13> kReadable = {{
    {0, DType::kF32},
    {1, DType::kF16},
    {2, DType::kQ4_0},
    {3, DType::kQ4_1},
    {6, DType::kQ5_0},
    {7, DType::kQ5_1},
    {8, DType::kQ8_0},
    {12, DType::kQ4_K},
    {13, DType::kQ5_K},
    {14, DType::kQ6_K},
    {20, DType::kIQ4_NL},
    {23, DType::kIQ4_XS},
    {30, DType::kBF16},
}};

struct Named {
  std::uint32_t number;
  std::string_view name;
  std::size_t block;
  std::size_t bytes;
};

// Those with a block of 0 are gone from ggml, or never stand in files.
constexpr std::array<Named, 29> kNamed = {{
    {4, "Q4_2", 0, 0},        {5, "Q4_3", 0, 0},        {9, "Q8_1", 0, 0},        {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {24, "I8", 1, 1},         {25, "I16", 1, 2},        {26, "I32", 1, 4},        {27, "I64", 1, 8},
    {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},   {31, "Q4_0_4_4", 0, 0},   {32, "Q4_0_4_8", 0, 0},
    {33, "Q4_0_8_8", 0, 0},   {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {36, "IQ4_NL_4_4", 0, 0},
    {37, "IQ4_NL_4_8", 0, 0}, {38, "IQ4_NL_8_8", 0, 0}, {39, "MXFP4", 32, 17},    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},
}};

const Named* named(std::uint32_t number) {
  const auto* found =
      std::find_if(kNamed.begin(), kNamed.end(), [number](const Named& e) { return e.number == number; });
  return found == kNamed.end() ? nullptr : found;
}

void read_dimensions(GgufCursor& cursor, GgufTensor& tensor) {
  tensor.n_dimensions = cursor.u32();
  if (tensor.n_dimensions == 0 || tensor.n_dimensions > tensor.dimensions.size())
    cursor.fail("has " + std::to_string(tensor.n_dimensions) + " dimensions", "expected 1 to 4");
  for (std::size_t d = 0; d < tensor.n_dimensions; ++d) tensor.dimensions.at(d) = cursor.u64();
}

// Bytes of the tensor, as far as its type is known.
std::size_t checked_bytes(const GgufCursor& cursor, const GgufTensor& tensor) {
  const std::span<const std::size_t> dimensions(tensor.dimensions.data(), tensor.n_dimensions);
  std::optional<std::size_t> elements = 1;
  for (const std::size_t extent : dimensions) {
    if (extent == 0) cursor.fail("has a dimension of 0", "expected at least 1");
    elements = elements ? checked_multiply(*elements, extent) : elements;
  }
  const std::size_t block = tensor.type.block;
  if (elements && block != 0 && dimensions.front() % block != 0)
    cursor.fail("of type " + tensor.type.name() + " has rows of " + std::to_string(dimensions.front()),
                "expected a multiple of its block, " + std::to_string(block));
  const std::optional<std::size_t> bytes =
      elements && block != 0 ? checked_multiply(*elements / block, tensor.type.bytes) : elements;
  if (!bytes) cursor.fail("has dimensions " + shape_text(dimensions), "that is more than 2^64 bytes");
  return block == 0 ? 1 : *bytes;
}

}  // namespace

std::string GgmlType::name() const {
  if (readable) return std::string(name_of(*readable));
  if (const Named* found = named(number)) return std::string(found->name);
  return std::to_string(number);
}

GgmlType ggml_type(std::uint32_t number) {
  const auto* found = std::find_if(kReadable.begin(), kReadable.end(),
                                   [number](const Readable& e) { return e.number == number; });
  if (found != kReadable.end()) {
    const std::size_t block = block_size(found->type);
    return {.number = number, .readable = found->type, .block = block, .bytes = bytes_of(found->type, block)};
  }
  const Named* known = named(number);
  if (known == nullptr) return {.number = number, .readable = std::nullopt, .block = 0, .bytes = 0};
  return {.number = number, .readable = std::nullopt, .block = known->block, .bytes = known->bytes};
}

std::string readable_ggml_types() {
  std::string text;
  for (std::size_t i = 0; i < kReadable.size(); ++i) {
    if (i > 0) text += i + 1 < kReadable.size() ? ", " : " or ";
    text += name_of(kReadable.at(i).type);
  }
  return text;
}

std::vector<GgufTensor> read_gguf_tensors(GgufCursor& cursor, std::size_t n_tensors) {
  std::vector<GgufTensor> tensors;
  for (std::size_t i = 0; i < n_tensors; ++i) {
    GgufTensor tensor;
    cursor.enter("the tensor after", tensors.empty() ? "the metadata" : tensors.back().name);
    tensor.name = cursor.string();
    if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes)
      cursor.fail("has a name of " + std::to_string(tensor.name.size()) + " bytes",
                  "expected 1 to " + std::to_string(kMaxNameBytes) + "; the file is damaged");
    cursor.enter("tensor", tensor.name);
    read_dimensions(cursor, tensor);
    tensor.type = ggml_type(cursor.u32());
    tensor.offset = cursor.u64();
    tensor.bytes = checked_bytes(cursor, tensor);
    tensors.push_back(tensor);
  }
  return tensors;
}

void check_gguf_places(std::span<const GgufTensor> tensors, std::size_t data_size, std::size_t alignment,
                       const std::string& file) {
  const auto fail = [&](const GgufTensor& tensor, const std::string& what, const std::string& expected) {
    throw Error("tensor " + printable(tensor.name, 200) + " " + what, file, expected);
  };
  std::vector<const GgufTensor*> order;
  order.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) {
    if (tensor.offset % alignment != 0)
      fail(tensor, "begins at byte " + std::to_string(tensor.offset) + " of the data",
           "expected a multiple of " + std::to_string(alignment));
    if (tensor.offset > data_size || tensor.bytes > data_size - tensor.offset)
      fail(tensor,
           "begins at byte " + std::to_string(tensor.offset) + " of the data and takes " +
               std::to_string(tensor.bytes),
           "but the file has only " + std::to_string(data_size) + " bytes of data; is it complete?");
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset < order[i - 1]->offset + order[i - 1]->bytes)
      fail(*order[i], "begins inside tensor " + printable(order[i - 1]->name, 150), "the file is damaged");
  }
}

}  // namespace sluice::model
