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

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw Error(fmt::format("--arg {}: {}", text, why), "",
              "scalars are TYPE:VALUE, structures struct:FILE.npy, buffers FILE.npy or "
              "zeros|random|poison:TYPE[SHAPE]; types are u8 to u64, s8 to s64, f16, bf16, f32 and f64");
}

struct TypeEntry {
  std::string_view name;
  std::string_view numpy;  // bf16 goes as its bits
  std::size_t size;
};
constexpr TypeEntry kTypes[] = {{"u8", "|u1", 1},  {"s8", "|i1", 1},   {"u16", "<u2", 2}, {"s16", "<i2", 2},
                                {"u32", "<u4", 4}, {"s32", "<i4", 4},  {"u64", "<u8", 8}, {"s64", "<i8", 8},
                                {"f16", "<f2", 2}, {"bf16", "<u2", 2}, {"f32", "<f4", 4}, {"f64", "<f8", 8}};

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

std::uint64_t bits_of_real(std::string_view type, double value) {
  if (type == "f64") return std::bit_cast<std::uint64_t>(value);
  if (type == "f16") return double_to_f16(value);
  const auto single = static_cast<float>(value);
  return type == "bf16" ? float_to_bf16(single) : std::bit_cast<std::uint32_t>(single);
}

std::uint64_t parse_bits(const TypeEntry& type, std::string_view digits, std::string_view text) {
  if (type.name == "f16" || type.name == "f64")
    return bits_of_real(type.name, parse_number<double>(digits, text));
  if (type.name == "bf16" || type.name == "f32")
    return bits_of_real(type.name, parse_number<float>(digits, text));
  const bool negative = type.name[0] == 's' && digits.starts_with('-');
  const auto bits = negative ? static_cast<std::uint64_t>(parse_number<std::int64_t>(digits, text))
                             : parse_number<std::uint64_t>(digits, text);
  const std::uint64_t beyond = bits >> (8 * type.size - (type.name[0] == 's' ? 1 : 0) - 1) >> 1U;
  if ((negative ? ~bits >> (8 * type.size - 1) : beyond) != 0)
    refuse(text, fmt::format("'{}' is no such number", digits));
  return bits;
}

// Floats in [-1, 1), integers below 100: what a kernel can compute with.
std::uint64_t random_bits(std::string_view type, std::uint64_t draw) {
  const double unit = static_cast<double>(draw >> 11U) * 0x1p-52 - 1.0;
  if (type == "f16") return double_to_f16(std::floor(unit * 0x1p10) * 0x1p-10);  // exact, and below 1
  return type.find('f') == std::string_view::npos ? draw % 100 : bits_of_real(type, unit);
}

// `size` bytes of it.
std::vector<std::byte> bytes_of(std::uint64_t bits, std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), &bits, size);
  return bytes;
}

std::string text_of(std::string_view numpy, std::uint64_t bits) {
  if (numpy == "<f4") return fmt::format(" {}", std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  if (numpy == "<f8") return fmt::format(" {}", std::bit_cast<double>(bits));
  if (numpy == "<f2") return fmt::format(" {}", f16_to_float(static_cast<std::uint16_t>(bits)));
  const auto unused = static_cast<unsigned>(64 - 8 * (numpy[2] - '0'));
  if (numpy[1] == 'i') return fmt::format(" {}", static_cast<std::int64_t>(bits << unused) >> unused);
  return fmt::format(" {}", bits);
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
    const TypeEntry& type = type_of(kind, text);
    value_ = bytes_of(parse_bits(type, what, text), type.size);
    type_ = *type_named(kind);
  }
}

// Poisoned memory, which the parameter points to.
std::span<std::byte> Argument::allocate(std::uint64_t size, Memory& memory) {
  size_ = size;
  address_ = memory.allocate(size, AllocationKind::kDevice, text_.substr(0, text_.find(",out=")));
  value_ = bytes_of(address_, sizeof(address_));
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
  if (kind == "random") {
    std::mt19937_64 generator(seed);
    for (std::size_t at = 0; at < size; at += type.size) {
      const std::uint64_t value = random_bits(type.name, generator());
      std::memcpy(&bytes[at], &value, type.size);
    }
  }
}

std::string Argument::save(const Memory& memory) const {
  if (address_ == 0) return {};
  const std::span<const std::byte> bytes = memory.bytes(address_, size_);
  const std::size_t size = static_cast<std::size_t>(array_.type[2] - '0');
  const std::size_t shown = std::min(bytes.size(), 8 * size);
  std::string line = text_ + ":";
  for (std::size_t at = 0; at < shown; at += size) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &bytes[at], size);
    line += text_of(array_.type, bits);
  }
  if (!out_.empty()) write_npy(out_, array_, bytes);
  return line + (shown < bytes.size() ? " …\n" : "\n");
}

}  // namespace sluice::ptx
