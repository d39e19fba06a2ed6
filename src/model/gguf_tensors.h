// The tensor descriptions of a GGUF file, and where they say that the data lies (ggml-org/ggml, docs/gguf.md).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_cursor.h"
#include "model/tensor.h"

namespace sluice::model {

// ggml's element types, by the format's numbers; those of tensor.h and those that we can only name.
struct GgmlType {
  std::uint32_t number = 0;
  std::optional<DType> readable;
  std::size_t block = 0;  // elements that are stored together; 0 if we don't know
  std::size_t bytes = 0;  // of a block

  std::string name() const;  // "Q4_K"; "99" of one that we don't know
};

GgmlType ggml_type(std::uint32_t number);

// "F32, F16, ... or BF16": what we read, for messages.
std::string readable_ggml_types();

struct GgufTensor {
  std::string_view name;
  GgmlType type;
  std::uint32_t n_dimensions = 0;
  std::array<std::size_t, 4> dimensions{};  // the first is contiguous
  std::uint64_t offset = 0;                 // from the start of the data
  std::size_t bytes = 0;                    // of the whole tensor; 1 if we don't know, it has at least that
};

// Reads `n_tensors` descriptions. Throws Error if one leaves the file, has no name, no or more than four dimensions or one of
// zero, more than 2^64 bytes, or a row that is no whole number of blocks.
std::vector<GgufTensor> read_gguf_tensors(GgufCursor& cursor, std::size_t n_tensors);

// Throws Error if a tensor leaves the `data_size` bytes of data, its offset is no multiple of `alignment`, or two overlap.
void check_gguf_places(std::span<const GgufTensor> tensors, std::size_t data_size, std::size_t alignment,
                       const std::string& file);

}  // namespace sluice::model
