#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/json_reader.h"

namespace sluice::model {
namespace {

constexpr std::size_t kLengthBytes = 8;
// The reference implementation's limit (safetensors, MAX_HEADER_SIZE).
constexpr std::size_t kMaxHeaderBytes = 100'000'000;
// name → {"shape": [..]}: nothing in a header lies deeper than three levels.
constexpr std::size_t kMaxHeaderDepth = 8;
// A large mixture of experts has that many in all its files; half a million would take seconds to sort.
constexpr std::size_t kMaxTensors = 100'000;
// A tensor takes about eight.
constexpr std::size_t kMaxHeaderValues = std::size_t{1} << 22U;
constexpr std::size_t kMaxDimensions = 64;
constexpr std::size_t kMaxMetadata = 10'000;

// Where a tensor lies in the data part of the file.
struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string_view name;
};

// The bits of an element of the types that the format knows; nothing for one that we have never heard of.
std::optional<std::size_t> bits_of(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, std::size_t>, 19> kBits = {{
      {"BOOL", 8},    {"U8", 8},   {"I8", 8},      {"F8_E4M3", 8}, {"F8_E5M2", 8},
      {"F8_E8M0", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"I16", 16},
      {"U16", 16},    {"F16", 16}, {"BF16", 16},   {"I32", 32},    {"U32", 32},
      {"F32", 32},    {"I64", 64}, {"U64", 64},    {"F64", 64},
  }};
  const auto* found =
      std::find_if(kBits.begin(), kBits.end(), [&](const auto& e) { return e.first == dtype; });
  return found == kBits.end() ? std::nullopt : std::optional(found->second);
}

std::optional<DType> readable_type(std::string_view dtype) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    if (name_of(type) == dtype) return type;
  return std::nullopt;
}

// One entry of the header, the reader's next value, checked piece by piece. `name` must outlive it; `data_size`: bytes
// that follow the header.
class Entry {
 public:
  Entry(std::string_view name, JsonReader& reader, std::size_t data_size, std::string_view file)
      : file_(file), reader_(&reader) {
    range_.name = name;
    if (reader.kind() != JsonReader::Kind::kObject)
      fail("is not an object", "expected {\"dtype\", \"shape\", \"data_offsets\"}");
    bool has_dtype = false;
    bool has_shape = false;
    bool has_offsets = false;
    const auto first_of = [this](std::string_view field, bool& seen) {
      if (seen) reader_->fail_twice(field);
      seen = true;
    };
    reader.object([&](std::string_view field) {
      if (field == "dtype") {
        first_of(field, has_dtype);
        read_dtype();
      } else if (field == "shape") {
        first_of(field, has_shape);
        read_shape();
      } else if (field == "data_offsets") {
        first_of(field, has_offsets);
        read_offsets(data_size);
      } else {
        fail("has an unknown field \"" + printable(field, 100) + "\"",
             "expected dtype, shape and data_offsets only");
      }
    });
    if (!has_dtype) fail("has no dtype", "the file is damaged");
    if (!has_shape) fail("has no shape", "the file is damaged");
    if (!has_offsets) fail("has no data_offsets", "the file is damaged");
    check_size();
  }

  const std::string& dtype() const { return dtype_; }
  const std::vector<std::size_t>& shape() const { return shape_; }
  const Range& range() const { return range_; }

 private:
  [[noreturn]] void fail(const std::string& what, std::string_view expected) const {
    throw Error("tensor " + printable(range_.name, 200) + " " + what, file_, expected);
  }

  // An integer that fits into 64 bits and isn't negative.
  std::size_t count(const char* field_name) const {
    if (reader_->kind() == JsonReader::Kind::kNumber) {
      const Json value = reader_->scalar();
      if (value.is_number_unsigned()) return value.get<std::size_t>();
    }
    fail(std::string("has a ") + field_name + " that is not a list of integers from 0 to 2^64 - 1",
         "the file is damaged");
  }

  // The integers of the list that comes next, at most `max_size`; `expected` says what it should have been.
  std::vector<std::size_t> counts(const char* field_name, std::size_t max_size, const char* expected) const {
    const auto fail_size = [&] { fail(std::string("has ") + expected, "the file is damaged"); };
    if (reader_->kind() != JsonReader::Kind::kArray) fail_size();
    std::vector<std::size_t> all;
    reader_->array([&] {
      if (all.size() == max_size) fail_size();
      all.push_back(count(field_name));
    });
    return all;
  }

  void read_dtype() {
    if (reader_->kind() != JsonReader::Kind::kString)
      fail("has a dtype that is not a string", "expected F32, F16 or BF16");
    dtype_ = reader_->string();
  }

  void read_shape() {
    shape_ = counts("shape", kMaxDimensions, "a shape that is not a list of at most 64 integers");
  }

  void read_offsets(std::size_t data_size) {
    static constexpr const char* kExpected = "data_offsets that are not [begin, end]";
    const std::vector<std::size_t> offsets = counts("data_offsets", 2, kExpected);
    if (offsets.size() != 2) fail(std::string("has ") + kExpected, "the file is damaged");
    range_.begin = offsets[0];
    range_.end = offsets[1];
    if (range_.begin > range_.end || range_.end > data_size) {
      fail("has data_offsets " + shape_text(offsets),
           "expected 0 <= begin <= end <= " + std::to_string(data_size) +
               ", the bytes after the header; is the file complete?");
    }
  }

  void check_size() const {
    const std::optional<std::size_t> bits = bits_of(dtype_);
    if (!bits) return;  // asking for it is an error anyway
    std::optional<std::size_t> total = bits;
    for (const std::size_t extent : shape_) total = total ? checked_multiply(*total, extent) : total;
    // A zero hides what its neighbours say; the product is zero whatever they are.
    if (std::find(shape_.begin(), shape_.end(), 0U) != shape_.end()) total = 0;
    if (!total) fail("has shape " + shape_text(shape_), "that is more than 2^64 bits");
    const std::size_t bytes = *total / 8;
    if (*total % 8 != 0 || bytes != range_.end - range_.begin) {
      fail("takes " + std::to_string(range_.end - range_.begin) + " bytes",
           "its shape " + shape_text(shape_) + " of " + dtype_ + " wants " + std::to_string(bytes));
    }
  }

  std::string_view file_;
  JsonReader* reader_;
  Range range_;
  std::string dtype_;
  std::vector<std::size_t> shape_;
};

// The header's text. Throws Error if the file can't hold it.
std::string_view header_text(const MappedFile& file) {
  const std::string where = file.path().string();
  const std::string_view text = file.text();
  if (text.size() < kLengthBytes)
    throw Error("file of " + std::to_string(text.size()) + " bytes is no safetensors file", where,
                "expected 8 bytes of header length first; is the file complete?");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    length |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
  const std::size_t limit = std::min(text.size() - kLengthBytes, kMaxHeaderBytes);
  if (length > limit)
    throw Error("header length " + std::to_string(length) + " is not possible", where,
                "expected at most " + std::to_string(limit) + "; is this a complete safetensors file?");
  const std::string_view header = text.substr(kLengthBytes, length);
  if (header.empty() || header.front() != '{')
    throw Error("header does not start with '{'", where, "is this a safetensors file?");
  return header;
}

void check_metadata(JsonReader& reader, const std::string& where) {
  const auto require = [&](JsonReader::Kind kind) {
    if (reader.kind() != kind)
      throw Error("__metadata__ is not an object of strings", where, "the file is damaged");
  };
  require(JsonReader::Kind::kObject);
  std::set<std::string, std::less<>> keys;
  reader.object([&](std::string_view key) {
    if (!keys.emplace(key).second) reader.fail_twice(key);
    if (keys.size() > kMaxMetadata)
      throw Error("__metadata__ has more than " + std::to_string(kMaxMetadata) + " entries", where,
                  "is it the right file?");
    require(JsonReader::Kind::kString);
    reader.string();
  });
}

// As the reference implementation: the tensors cover the data without overlap and without holes, so that
// nothing can hide in the file.
void check_cover(std::vector<Range> ranges, std::size_t data_size, const std::string& where) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::size_t covered = 0;
  for (const Range& range : ranges) {
    if (range.begin != covered) {
      throw Error("tensor " + printable(range.name, 200) + " begins at byte " + std::to_string(range.begin) +
                      (range.begin < covered ? ", inside another tensor" : ", after a hole"),
                  where, "expected byte " + std::to_string(covered) + " of the data");
    }
    covered = range.end;
  }
  if (covered != data_size)
    throw Error(std::to_string(data_size - covered) + " bytes after the last tensor", where,
                "expected data of " + std::to_string(covered) + " bytes, found " + std::to_string(data_size));
}

}  // namespace

Safetensors::Safetensors(const std::filesystem::path& path) : file_(path) {
  const std::string where = path.string();
  const std::string_view header = header_text(file_);
  const std::span<const std::byte> data = file_.bytes().subspan(kLengthBytes + header.size());
  JsonReader reader(header, where, {.depth = kMaxHeaderDepth, .values = kMaxHeaderValues});
  std::vector<Range> ranges;
  bool has_metadata = false;
  reader.object([&](std::string_view key) {
    if (key == "__metadata__") {
      if (has_metadata) reader.fail_twice(key);
      has_metadata = true;
      check_metadata(reader, where);
      return;
    }
    if (ranges.size() == kMaxTensors)
      throw Error(fmt::format("more than {} tensors", kMaxTensors), where,
                  "split the file into shards with an index");
    const std::string name(key);
    // Most files are sorted: then the place is at the end.
    const auto place =
        tensors_.empty() || tensors_.rbegin()->first < name ? tensors_.end() : tensors_.lower_bound(name);
    if ((place != tensors_.end() && place->first == name) || unreadable_.contains(name))
      reader.fail_twice(name);
    const Entry entry(name, reader, data.size(), where);
    ranges.push_back(entry.range());
    if (const std::optional<DType> type = readable_type(entry.dtype())) {
      const std::size_t size = ranges.back().end - ranges.back().begin;
      const auto added = tensors_.emplace_hint(place, name,
                                               TensorView{.name = name,
                                                          .dtype = *type,
                                                          .shape = entry.shape(),
                                                          .data = data.subspan(ranges.back().begin, size)});
      ranges.back().name = added->first;
    } else {
      ranges.back().name = unreadable_.emplace(name, entry.dtype()).first->first;
    }
  });
  reader.end();
  check_cover(std::move(ranges), data.size(), where);
  check_intact();
}

bool Safetensors::contains(std::string_view name) const {
  return tensors_.contains(name) || unreadable_.contains(name);
}

const TensorView& Safetensors::tensor(std::string_view name) const {
  if (const auto found = tensors_.find(name); found != tensors_.end()) return found->second;
  const std::string shown = printable(name, 200);
  if (const auto found = unreadable_.find(name); found != unreadable_.end())
    throw Error("tensor " + shown + " is of type " + printable(found->second, 40), path().string(),
                "expected F32, F16 or BF16");
  throw Error("no tensor " + shown, path().string(), "the checkpoint is incomplete or of another model");
}

}  // namespace sluice::model
