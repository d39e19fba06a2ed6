#include "ptx/module.h"

#include <algorithm>
#include <bit>

namespace sluice::ptx {
namespace {

struct TypeEntry {
  std::string_view name;
  Type type;
  std::uint32_t size;
};
constexpr TypeEntry kTypes[] = {
    {"pred", Type::kPred, 0},   {"b8", Type::kB8, 1},     {"b16", Type::kB16, 2},
    {"b32", Type::kB32, 4},     {"b64", Type::kB64, 8},   {"b128", Type::kB128, 16},
    {"u8", Type::kU8, 1},       {"u16", Type::kU16, 2},   {"u32", Type::kU32, 4},
    {"u64", Type::kU64, 8},     {"s8", Type::kS8, 1},     {"s16", Type::kS16, 2},
    {"s32", Type::kS32, 4},     {"s64", Type::kS64, 8},   {"f16", Type::kF16, 2},
    {"f16x2", Type::kF16x2, 4}, {"bf16", Type::kBF16, 2}, {"bf16x2", Type::kBF16x2, 4},
    {"tf32", Type::kTF32, 4},   {"f32", Type::kF32, 4},   {"f64", Type::kF64, 8},
};

}  // namespace

std::uint32_t size_of(Type type) {
  const auto* entry = std::ranges::find(kTypes, type, &TypeEntry::type);
  return entry == std::end(kTypes) ? 0 : entry->size;
}

std::optional<Type> type_named(std::string_view name) {
  const auto* entry = std::ranges::find(kTypes, name, &TypeEntry::name);
  if (entry == std::end(kTypes)) return std::nullopt;
  return entry->type;
}

std::optional<Space> space_named(std::string_view name) {
  if (name == "global") return Space::kGlobal;
  if (name == "shared") return Space::kShared;
  if (name == "local") return Space::kLocal;
  if (name == "param") return Space::kParam;
  if (name == "const") return Space::kConst;
  return std::nullopt;
}

std::optional<std::uint64_t> constant_bits(const Operand& constant, Type type) {
  const bool real = constant.kind == Operand::Kind::kFloat;
  const auto bits = static_cast<std::uint64_t>(constant.integer);
  if (real && constant.real_bits == 8 * size_of(type)) return bits;
  const double value = real ? constant.real : static_cast<double>(constant.integer);
  if (type == Type::kF64) return std::bit_cast<std::uint64_t>(value);
  if (type == Type::kF32) {
    const float single = real ? static_cast<float>(value) : static_cast<float>(constant.integer);
    return std::bit_cast<std::uint32_t>(single);
  }
  if (real) return std::nullopt;
  if (type == Type::kPred) return bits == 0 ? 0 : ~std::uint64_t{0};
  if (type == Type::kS8) return static_cast<std::uint64_t>(static_cast<std::int8_t>(bits));
  return size_of(type) == 1 ? bits & 0xffU : bits;
}

std::string as_written(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '@') {
      result += text[at++];
      continue;
    }
    at = std::min(text.find_first_not_of("0123456789", at + 1), text.size());
    if (at + 1 < text.size() && text[at] == '.' && text[at + 1] >= '0' && text[at + 1] <= '9') ++at;
  }
  return result;
}

const Function* Module::find_function(std::string_view function) const {
  const auto found = std::ranges::find(functions, function, &Function::name);
  return found == functions.end() ? nullptr : &*found;
}

const Variable* Module::find_variable(std::string_view variable) const {
  const auto found = std::ranges::find(variables, variable, &Variable::name);
  return found == variables.end() ? nullptr : &*found;
}

}  // namespace sluice::ptx
