#include "ptx/tool/arguments.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <random>

#include <fmt/format.h>

#include "base/bf16.h"
#include "base/checked.h"
#include "base/error.h"

namespace sluice::ptx {
namespace {

struct TypeEntry {
  std::string_view name;
  std::string_view numpy;  // bf16 goes as its bits
  std::size_t size;
};
constexpr TypeEntry kTypes[] = {{"u8", "|u1", 1},  {"s8", "|i1", 1},   {"u16", "<u2", 2}, {"s16", "<i2", 2},
                                {"u32", "<u4", 4}, {"s32", "<i4", 4},  {"u64", "<u8", 8}, {"s64", "<i8", 8},
                                {"f16", "<f2", 2}, {"bf16", "<u2", 2}, {"f32", "<f4", 4}, {"f64", "<f8", 8}};

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(fmt::format("--arg {}: {}", text, why), "",
              "scalars are TYPE:VALUE, structures struct:FILE.npy, buffers FILE.npy or "
              "zeros|random|poison:TYPE[SHAPE]; types are u8 to u64, s8 to s64, f16, bf16, f32 and f64");
}

const TypeEntry& type_of(std::string_view name, std::string_view text) {
  const auto* found = std::ranges::find(kTypes, name, &TypeEntry::name);
  if (found == std::end(kTypes)) refuse(text, fmt::format("'{}' is no type", name));
  return *found;
}

template <class T>
T parse_number(std::string_view digits, std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size())
    refuse(text, fmt::format("'{}' is no such number", digits));
  return value;
}

template <class T>
std::vector<std::byte> bytes_of(T value) {
  std::vector<std::byte> bytes(sizeof(T));
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// Rounded to nearest, ties to even.
std::uint16_t double_to_f16(double value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000U : 0U);
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return 0x7fff;
  if (magnitude >= 65520) return sign | 0x7c00U;
  const int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  // Units of the last place. A subnormal number's are its bits; else the leading one adds 1 to the exponent's field.
  const auto units = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  return static_cast<std::uint16_t>(sign | (units + ((exponent + 14) << 10)));
}

std::vector<std::byte> scalar(const TypeEntry& type, std::string_view digits, std::string_view text) {
  if (type.name == "f32") return bytes_of(parse_number<float>(digits, text));
  if (type.name == "f64") return bytes_of(parse_number<double>(digits, text));
  if (type.name == "u64") return bytes_of(parse_number<std::uint64_t>(digits, text));
  if (type.name == "s64") return bytes_of(parse_number<std::int64_t>(digits, text));
  if (type.name == "u32") return bytes_of(parse_number<std::uint32_t>(digits, text));
  if (type.name == "s32") return bytes_of(parse_number<std::int32_t>(digits, text));
  if (type.name == "u16") return bytes_of(parse_number<std::uint16_t>(digits, text));
  if (type.name == "s16") return bytes_of(parse_number<std::int16_t>(digits, text));
  if (type.name == "u8") return bytes_of(parse_number<std::uint8_t>(digits, text));
  if (type.name == "s8") return bytes_of(parse_number<std::int8_t>(digits, text));
  if (type.name == "bf16") return bytes_of(float_to_bf16(parse_number<float>(digits, text)));
  return bytes_of(double_to_f16(parse_number<double>(digits, text)));
}

// Floats in [-1, 1), integers below 100: what a kernel can compute with.
void fill_random(std::span<std::byte> bytes, std::string_view type, std::size_t size, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    const std::uint64_t draw = generator();
    const double unit = static_cast<double>(draw >> 11U) * 0x1p-52 - 1.0;
    if (type == "f32") {
      const auto value = static_cast<float>(unit);
      std::memcpy(&bytes[at], &value, size);
    } else if (type == "f64") {
      std::memcpy(&bytes[at], &unit, size);
    } else if (type == "bf16") {
      const std::uint16_t value = float_to_bf16(static_cast<float>(unit));
      std::memcpy(&bytes[at], &value, size);
    } else if (type == "f16") {
      const std::uint16_t value = double_to_f16(std::floor(unit * 0x1p10) * 0x1p-10);  // exact, and below 1
      std::memcpy(&bytes[at], &value, size);
    } else {
      const std::uint64_t value = draw % 100;
      std::memcpy(&bytes[at], &value, size);
    }
  }
}

}  // namespace

Argument::Argument(std::string_view text, Memory& memory, std::uint64_t seed) : text_(text) {
  std::string_view rest = text;
  const std::size_t out = rest.find(",out=");
  if (out != std::string_view::npos) {
    out_ = rest.substr(out + 5);
    rest = rest.substr(0, out);
  }
  const std::size_t colon = rest.find(':');
  const std::string_view kind = colon == std::string_view::npos ? "" : rest.substr(0, colon);
  const std::string_view what = rest.substr(colon + 1);  // npos + 1 is 0
  if (kind == "zeros" || kind == "random" || kind == "poison") {
    make_buffer(kind, what, memory, seed);
    return;
  }
  if (kind != "struct" && rest.ends_with(".npy")) {
    const ArrayFile file = read_npy(std::string(rest));
    array_ = file.type;
    std::ranges::copy(file.data, allocate(file.data.size(), memory).begin());
    return;
  }
  if (kind.empty()) refuse(text, "it is neither a value nor a buffer");
  if (!out_.empty()) refuse(text, "only buffers can be written");
  if (kind == "struct") {
    const ArrayFile file = read_npy(std::string(what));
    value_.assign(file.data.begin(), file.data.end());
  } else {
    value_ = scalar(type_of(kind, text), what, text);
    type_ = *type_named(kind);
  }
}

// Poisoned memory, which the parameter points to.
std::span<std::byte> Argument::allocate(std::uint64_t size, Memory& memory) {
  size_ = size;
  address_ = memory.allocate(size, AllocationKind::kDevice, text_.substr(0, text_.find(",out=")));
  value_ = bytes_of(address_);
  return memory.bytes(address_, size);
}

void Argument::make_buffer(std::string_view kind, std::string_view type_and_shape, Memory& memory,
                           std::uint64_t seed) {
  const std::size_t bracket = type_and_shape.find('[');
  if (bracket == std::string_view::npos || !type_and_shape.ends_with(']'))
    refuse(text_, "the shape is missing");
  const TypeEntry& type = type_of(type_and_shape.substr(0, bracket), text_);
  array_.type = type.numpy;
  std::string_view shape = type_and_shape.substr(bracket + 1, type_and_shape.size() - bracket - 2);
  std::size_t size = type.size;
  while (true) {
    const std::size_t by = std::min(shape.find('x'), shape.size());
    array_.shape.push_back(parse_number<std::uint64_t>(shape.substr(0, by), text_));
    const auto product = checked_multiply(size, array_.shape.back());
    if (!product) refuse(text_, "larger than any memory");
    size = *product;
    if (by == shape.size()) break;
    shape.remove_prefix(by + 1);
  }
  const std::span<std::byte> bytes = allocate(size, memory);
  if (kind == "zeros") std::ranges::fill(bytes, std::byte{0});
  if (kind == "random") fill_random(bytes, type.name, type.size, seed);
}

std::string Argument::summary(const Memory& memory) const {
  if (!is_buffer()) return text_;
  const auto bytes = memory.bytes(address_, size_);
  const std::size_t size = static_cast<std::size_t>(array_.type[2] - '0');
  std::string first;
  for (std::size_t at = 0; at < bytes.size() && at < 8 * size; at += size) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &bytes[at], size);
    if (array_.type == "<f4")
      first += fmt::format(" {}", std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    else if (array_.type == "<f8")
      first += fmt::format(" {}", std::bit_cast<double>(bits));
    else if (array_.type == "<f2")
      first += fmt::format(" {}", f16_to_float(static_cast<std::uint16_t>(bits)));
    else if (array_.type == "<i4")
      first += fmt::format(" {}", static_cast<std::int32_t>(bits));
    else if (array_.type == "<i8")
      first += fmt::format(" {}", static_cast<std::int64_t>(bits));
    else
      first += fmt::format(" {}", bits);
  }
  return fmt::format("{}:{}{}", text_, first, bytes.size() > 8 * size ? " …" : "");
}

void Argument::save(const Memory& memory) const {
  if (out_.empty()) return;
  write_npy(out_, array_, memory.bytes(address_, size_));
}

}  // namespace sluice::ptx
