#include "model/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/error.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxNameBytes = 65'535;  // the format's limit
constexpr std::size_t kLengthBytes = 8;        // what a string takes at least

struct TypeFacts {
  std::string_view name;
  std::size_t bytes;  // 0: varies
};

// By the format's numbers.
constexpr std::array<TypeFacts, 13> kTypes = {{
    {"u8", 1},
    {"i8", 1},
    {"u16", 2},
    {"i16", 2},
    {"u32", 4},
    {"i32", 4},
    {"f32", 4},
    {"bool", 1},
    {"string", 0},
    {"array", 0},
    {"u64", 8},
    {"i64", 8},
    {"f64", 8},
}};

const TypeFacts& facts(GgufType type) {
  return kTypes.at(static_cast<std::size_t>(type));
}

GgufType read_type(GgufCursor& cursor) {
  const std::uint32_t number = cursor.u32();
  if (number >= kTypes.size())
    cursor.fail("is of type " + std::to_string(number), "GGUF has types 0 to 12; the file is damaged");
  return static_cast<GgufType>(number);
}

// The bytes of `count` values of `type`.
std::span<const std::byte> read_elements(GgufCursor& cursor, GgufType type, std::uint64_t count) {
  const std::size_t bytes = facts(type).bytes;
  if (count > cursor.left() / (type == GgufType::kString ? kLengthBytes : bytes))
    cursor.fail("has " + std::to_string(count) + " elements of type " + std::string(facts(type).name),
                "only " + std::to_string(cursor.left()) + " bytes are left; is the file complete?");
  if (type != GgufType::kString) return cursor.take(count * bytes);
  GgufCursor walk = cursor;
  for (std::uint64_t i = 0; i < count; ++i) walk.string();
  return cursor.take(walk.position() - cursor.position());
}

void check_flags(const GgufCursor& cursor, std::span<const std::byte> flags) {
  if (std::any_of(flags.begin(), flags.end(), [](std::byte flag) { return flag > std::byte{1}; }))
    cursor.fail("holds a bool that is neither 0 nor 1", "the file is damaged");
}

template <typename T>
T load(const std::byte* from) {
  T value{};
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Element `i` of `value`, of a type that isn't string, handed to `use` in its own C++ type.
template <typename Use>
auto with_element(const GgufValue& value, std::size_t i, Use use) {
  const std::byte* at = value.data.data() + i * facts(value.type).bytes;
  switch (value.type) {
    case GgufType::kInt8:
      return use(load<std::int8_t>(at));
    case GgufType::kUint16:
      return use(load<std::uint16_t>(at));
    case GgufType::kInt16:
      return use(load<std::int16_t>(at));
    case GgufType::kUint32:
      return use(load<std::uint32_t>(at));
    case GgufType::kInt32:
      return use(load<std::int32_t>(at));
    case GgufType::kUint64:
      return use(load<std::uint64_t>(at));
    case GgufType::kInt64:
      return use(load<std::int64_t>(at));
    case GgufType::kFloat32:
      return use(load<float>(at));
    case GgufType::kFloat64:
      return use(load<double>(at));
    case GgufType::kUint8:
    case GgufType::kBool:
      return use(load<std::uint8_t>(at));
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  SLUICE_CHECK(value.type != GgufType::kString && value.type != GgufType::kArray);
  return use(std::uint8_t{0});
}

template <typename T>
bool is_negative(T value) {
  if constexpr (std::is_signed_v<T>) return value < 0;
  return false;
}

template <typename T>
bool exceeds_int64(T value) {
  if constexpr (std::is_same_v<T, std::uint64_t>)
    return value > std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  return false;
}

bool is_float(GgufType type) {
  return type == GgufType::kFloat32 || type == GgufType::kFloat64;
}

bool is_whole(GgufType type) {
  return !is_float(type) && type != GgufType::kBool && type != GgufType::kString;
}

// The string that begins at `at`, which moves behind it. Lengths were checked when the header was read, but the file is only
// mapped: if somebody writes into it, they may be others by now, and must not lead out of the value, which ends at `end`.
std::string_view text_at(const std::byte*& at, const std::byte* end) {
  const auto left = static_cast<std::size_t>(end - at);
  if (left < kLengthBytes) return {};
  const std::size_t length = std::min<std::size_t>(load<std::uint64_t>(at), left - kLengthBytes);
  const std::string_view text(reinterpret_cast<const char*>(at) + kLengthBytes, length);
  at += kLengthBytes + length;
  return text;
}

}  // namespace

GgufValue GgufValue::read(GgufCursor& cursor) {
  GgufValue value;
  std::uint64_t count = 1;
  value.type = read_type(cursor);
  if (value.type == GgufType::kArray) {
    value.is_array = true;
    value.type = read_type(cursor);
    if (value.type == GgufType::kArray) cursor.fail("is an array of arrays", "expected numbers or strings");
    count = cursor.u64();
  }
  value.data = read_elements(cursor, value.type, count);
  value.count = count;
  if (value.type == GgufType::kBool) check_flags(cursor, value.data);
  return value;
}

GgufMetadata::GgufMetadata(GgufCursor& cursor, std::size_t n_keys) : file_(cursor.file()) {
  std::string_view previous;
  for (std::size_t i = 0; i < n_keys; ++i) {
    cursor.enter("the key after", previous.empty() ? "the header" : previous);
    const std::string_view key = cursor.string();
    if (key.empty() || key.size() > kMaxNameBytes)
      cursor.fail("has " + std::to_string(key.size()) + " bytes",
                  "expected 1 to " + std::to_string(kMaxNameBytes) + "; the file is damaged");
    cursor.enter("key", key);
    const GgufValue value = GgufValue::read(cursor);
    if (!values_.emplace(key, value).second) cursor.fail("occurs twice", "the file is damaged");
    previous = key;
  }
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const GgufValue* GgufMetadata::find_array(std::string_view key, std::string_view expected) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (!value->is_array) fail_type(key, *value, expected);
  if (value->count > kMaxElements)
    throw Error("key " + printable(key, 200) + " has " + std::to_string(value->count) + " elements", file_,
                "expected at most " + std::to_string(kMaxElements));
  return value;
}

void GgufMetadata::fail_type(std::string_view key, const GgufValue& value, std::string_view expected) const {
  std::string type(value.is_array ? "array of " : "");
  type += facts(value.type).name;
  throw Error("key " + printable(key, 200) + " is of type " + type, file_,
              std::string("expected ").append(expected));
}

std::optional<std::uint64_t> GgufMetadata::whole(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || !is_whole(value->type)) fail_type(key, *value, "an integer");
  return with_element(*value, 0, [&](auto element) {
    if (is_negative(element))
      throw Error("key " + printable(key, 200) + " is " + std::to_string(element), file_,
                  "expected an integer from 0");
    return static_cast<std::uint64_t>(element);
  });
}

std::optional<double> GgufMetadata::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || !(is_whole(value->type) || is_float(value->type)))
    fail_type(key, *value, "a number");
  return with_element(*value, 0, [](auto element) { return static_cast<double>(element); });
}

std::optional<bool> GgufMetadata::flag(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kBool) fail_type(key, *value, "a bool");
  return value->data.front() != std::byte{0};
}

std::optional<std::string_view> GgufMetadata::text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kString) fail_type(key, *value, "a string");
  const std::byte* at = value->data.data();
  return text_at(at, at + value->data.size());
}

std::optional<std::vector<std::int64_t>> GgufMetadata::wholes(std::string_view key) const {
  static constexpr std::string_view kExpected = "an array of integers or bools";
  const GgufValue* value = find_array(key, kExpected);
  if (value == nullptr) return std::nullopt;
  if (!is_whole(value->type) && value->type != GgufType::kBool) fail_type(key, *value, kExpected);
  std::vector<std::int64_t> wholes(value->count);
  for (std::size_t i = 0; i < wholes.size(); ++i) {
    wholes[i] = with_element(*value, i, [&](auto element) {
      if (exceeds_int64(element))
        throw Error("key " + printable(key, 200) + " holds " + std::to_string(element), file_,
                    "expected at most " + std::to_string(std::numeric_limits<std::int64_t>::max()));
      return static_cast<std::int64_t>(element);
    });
  }
  return wholes;
}

std::optional<std::vector<double>> GgufMetadata::numbers(std::string_view key) const {
  static constexpr std::string_view kExpected = "an array of numbers";
  const GgufValue* value = find_array(key, kExpected);
  if (value == nullptr) return std::nullopt;
  if (!is_whole(value->type) && !is_float(value->type)) fail_type(key, *value, kExpected);
  std::vector<double> numbers(value->count);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = with_element(*value, i, [](auto element) { return static_cast<double>(element); });
  return numbers;
}

std::optional<std::vector<std::string_view>> GgufMetadata::texts(std::string_view key) const {
  static constexpr std::string_view kExpected = "an array of strings";
  const GgufValue* value = find_array(key, kExpected);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kString) fail_type(key, *value, kExpected);
  std::vector<std::string_view> texts(value->count);
  const std::byte* at = value->data.data();
  const std::byte* const end = at + value->data.size();
  for (std::string_view& text : texts) text = text_at(at, end);
  return texts;
}

}  // namespace sluice::model
