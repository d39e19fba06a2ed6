// Looking for NaN and infinity at the speed of memory.
//
// A float is one of both exactly if all bits of its exponent are set. With `exponent` the mask of those bits and `low` the
// lowest of them, (x & exponent) + low carries into the sign bit exactly then, and never further. So 64-bit words check two
// or four numbers at a time, and the carries of a whole chunk are collected before anybody looks.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "model/weights.h"

namespace sluice::model {
namespace {

// Chunks that fit into the L1 cache: the one in which something is found is searched again.
constexpr std::size_t kChunkBytes = 16384;
constexpr std::size_t kBytesBetweenReports = std::size_t{16} << 20U;

struct Format {
  std::size_t bytes;
  std::uint64_t exponent;  // in each number of a 64-bit word
  std::uint64_t low;
  std::uint64_t carry;
};

constexpr Format kF32 = {4, 0x7F8000007F800000U, 0x0080000000800000U, 0x8000000080000000U};
constexpr Format kF16 = {2, 0x7C007C007C007C00U, 0x0400040004000400U, 0x8000800080008000U};
constexpr Format kBF16 = {2, 0x7F807F807F807F80U, 0x0080008000800080U, 0x8000800080008000U};

std::uint64_t carries(const Format& format, std::uint64_t word) {
  return ((word & format.exponent) + format.low) & format.carry;
}

bool all_finite(const Format& format, std::span<const std::byte> chunk) {
  std::uint64_t found = 0;
  const std::size_t n_words = chunk.size() / 8;
  for (std::size_t i = 0; i < n_words; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, chunk.data() + 8 * i, 8);
    found |= (word & format.exponent) + format.low;
  }
  std::uint64_t rest = 0;  // zeros are finite
  if (chunk.size() > 8 * n_words) std::memcpy(&rest, chunk.data() + 8 * n_words, chunk.size() - 8 * n_words);
  return ((found & format.carry) | carries(format, rest)) == 0;
}

std::optional<std::size_t> first_not_finite(const Format& format, std::span<const std::byte> data) {
  for (std::size_t begin = 0; begin < data.size(); begin += kChunkBytes) {
    const std::span<const std::byte> chunk = data.subspan(begin, std::min(kChunkBytes, data.size() - begin));
    if (all_finite(format, chunk)) continue;
    // Nothing is found if it was there for a moment only: files that are mapped may change.
    for (std::size_t at = 0; at < chunk.size(); at += format.bytes)
      if (!all_finite(format, chunk.subspan(at, format.bytes))) return (begin + at) / format.bytes;
  }
  return std::nullopt;
}

// Where the fp16 scales of a quantized block stand; all else in it is integers, and no product of them overflows an fp32.
struct Scales {
  std::size_t block_bytes;
  std::array<std::size_t, 2> at;  // one scale: twice the same
};

Scales scales_of(DType type) {
  const std::size_t bytes = bytes_of(type, block_size(type));
  switch (type) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {bytes, {0, 2}};
    case DType::kQ6_K:
      return {bytes, {bytes - 2, bytes - 2}};
    default:
      return {bytes, {0, 0}};
  }
}

std::uint64_t scale_at(std::span<const std::byte> data, std::size_t at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, data.data() + at, sizeof bits);
  return bits;
}

// The first element of the first block that has a scale which isn't finite.
std::optional<std::size_t> first_not_finite(DType type, std::span<const std::byte> data) {
  const Scales scales = scales_of(type);
  for (std::size_t begin = 0; begin < data.size(); begin += scales.block_bytes) {
    const std::uint64_t word =
        scale_at(data, begin + scales.at[0]) | (scale_at(data, begin + scales.at[1]) << 16U);
    if (carries(kF16, word) != 0) return begin / scales.block_bytes * block_size(type);
  }
  return std::nullopt;
}

std::optional<std::size_t> first_not_finite_of(DType type, std::span<const std::byte> data) {
  switch (type) {
    case DType::kF32:
      return first_not_finite(kF32, data);
    case DType::kF16:
      return first_not_finite(kF16, data);
    case DType::kBF16:
      return first_not_finite(kBF16, data);
    default:
      return first_not_finite(type, data);
  }
}

}  // namespace

bool all_finite(DType type, std::span<const std::byte> data) {
  switch (type) {
    case DType::kF32:
      return all_finite(kF32, data);
    case DType::kF16:
      return all_finite(kF16, data);
    case DType::kBF16:
      return all_finite(kBF16, data);
    default:
      return !first_not_finite(type, data);
  }
}

Error not_finite_error(std::string_view tensor, std::size_t index, const std::filesystem::path& file) {
  return Error("tensor " + printable(tensor, 200) +
                   " has a value that is infinite or not a number at index " + std::to_string(index),
               file.string(), "the checkpoint is damaged");
}

void check_finite(const Model& model, const LoadProgress& progress) {
  std::size_t total = 0;
  for (const ModelTensor& tensor : model.tensors) total += tensor.data.size();
  std::size_t done = 0;
  for (const ModelTensor& tensor : model.tensors) {
    // Whole blocks between two reports, so that each part can be looked at alone.
    const std::size_t block = block_size(tensor.dtype);
    const std::size_t step =
        kBytesBetweenReports / bytes_of(tensor.dtype, block) * bytes_of(tensor.dtype, block);
    for (std::size_t begin = 0; begin < tensor.data.size(); begin += step) {
      const std::size_t size = std::min(step, tensor.data.size() - begin);
      const auto found = first_not_finite_of(tensor.dtype, tensor.data.subspan(begin, size));
      if (found)
        throw not_finite_error(tensor.name, begin / bytes_of(tensor.dtype, block) * block + *found,
                               tensor.file);
      done += size;
      if (progress) progress(done, total);
    }
  }
}

}  // namespace sluice::model
