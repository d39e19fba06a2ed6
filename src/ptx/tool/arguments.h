// Arguments of kernels on the command line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "ptx/machine.h"

namespace sluice::ptx {

// An array in a file of NumPy's format, version 1 or 2, C order.
struct ArrayType {
  std::string type;  // "<f4"
  std::vector<std::uint64_t> shape;
};
struct ArrayFile {
  ArrayType type;
  MappedFile file;
  std::span<const std::byte> data;  // of the file
};
ArrayFile read_npy(const std::string& path);
void write_npy(const std::string& path, const ArrayType& array, std::span<const std::byte> data);

// One --arg: TYPE:VALUE is a scalar (u32:5, f32:1.5), struct:FILE.npy a structure by value, as its bytes; FILE.npy,
// zeros:TYPE[N], random:TYPE[N] and poison:TYPE[NxM] are buffers, with ,out=FILE.npy written after the launch.
class Argument {
 public:
  // Throws Error if it is none of these.
  Argument(std::string_view text, Memory& memory, std::uint64_t seed);

  std::span<const std::byte> value() const { return value_; }  // as the parameter takes it
  Type type() const { return type_; }                          // of a scalar; else kNone
  // Of a buffer: a line with its first elements, for people; and writes it if it has an out=.
  std::string save(const Memory& memory) const;

 private:
  void make_buffer(std::string_view kind, std::string_view type_and_shape, Memory& memory,
                   std::uint64_t seed);
  std::span<std::byte> allocate(std::uint64_t size, Memory& memory);

  std::string text_;
  std::vector<std::byte> value_;
  Type type_ = Type::kNone;
  ArrayType array_;  // of a buffer
  std::uint64_t address_ = 0, size_ = 0;
  std::string out_;
};

}  // namespace sluice::ptx
