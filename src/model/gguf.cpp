#include "model/gguf.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::model {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::size_t kDefaultAlignment = 32;
constexpr std::size_t kMaxAlignment = std::size_t{1} << 20U;
constexpr std::size_t kMaxParts = 1000;

// What the shortest key with its value, and the shortest tensor description, take.
constexpr std::size_t kKeyBytes = 8 + 1 + 4 + 1;
constexpr std::size_t kTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// What headers may still hold, over all parts: five times what the longest vocabularies take, and more tensors than
// any model has, yet read well within a second.
struct Limits {
  std::size_t bytes = std::size_t{1} << 26U;
  std::size_t keys = std::size_t{1} << 16U;
  std::size_t tensors = std::size_t{1} << 16U;
};

struct Header {
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;
  std::size_t data_begin = 0;
};

void check_magic_and_version(GgufCursor& cursor) {
  if (cursor.left() < kMagic.size())
    cursor.fail("is missing: the file has less than 4 bytes", "is it complete?");
  const std::span<const std::byte> magic = cursor.take(kMagic.size());
  if (std::string_view(reinterpret_cast<const char*>(magic.data()), magic.size()) != kMagic)
    cursor.fail("does not begin with \"GGUF\"", "is this a complete GGUF file?");
  const std::uint32_t version = cursor.u32();
  if (version == 2 || version == 3) return;
  if (version != 0 && version % 65'536 == 0)
    cursor.fail("is big-endian", "expected a little-endian file; convert the model again");
  cursor.fail("is of GGUF version " + std::to_string(version), "expected 2 or 3; convert the model again");
}

// A number of things that take at least `bytes` each.
std::size_t read_count(GgufCursor& cursor, std::string_view things, std::size_t bytes, std::size_t& limit) {
  const std::uint64_t count = cursor.u64();
  if (count > cursor.left() / bytes)
    cursor.fail(fmt::format("declares {} {}", count, things),
                fmt::format("there is room for {}; is the file complete?", cursor.left() / bytes));
  if (count > limit)
    cursor.fail(fmt::format("declares {} {}", count, things), fmt::format("at most {} are read", limit));
  limit -= count;
  return count;
}

std::size_t alignment_of(const GgufMetadata& metadata, const std::string& file) {
  const std::uint64_t alignment = metadata.whole("general.alignment").value_or(kDefaultAlignment);
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kMaxAlignment)
    throw Error("general.alignment is " + std::to_string(alignment), file,
                "expected a power of two from 8 to " + std::to_string(kMaxAlignment));
  return alignment;
}

Header read_header(const MappedFile& file, Limits& limits) {
  const std::span<const std::byte> bytes = file.bytes();
  const bool all = bytes.size() <= limits.bytes;
  GgufCursor cursor(bytes.first(std::min(bytes.size(), limits.bytes)), file.path().string(),
                    all ? "the file's end" : "the largest header that is read");
  check_magic_and_version(cursor);
  const std::size_t n_tensors = read_count(cursor, "tensors", kTensorBytes, limits.tensors);
  const std::size_t n_keys = read_count(cursor, "keys", kKeyBytes, limits.keys);
  Header header;
  header.metadata = GgufMetadata(cursor, n_keys);
  header.tensors = read_gguf_tensors(cursor, n_tensors);
  limits.bytes -= cursor.position();
  const std::size_t alignment = alignment_of(header.metadata, cursor.file());
  header.data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  // A file without tensors may end before the data would begin.
  check_gguf_places(header.tensors, bytes.size() - std::min(bytes.size(), header.data_begin), alignment,
                    cursor.file());
  return header;
}

// How the names of the parts of a split file end; `part` from 0.
std::string part_ending(std::size_t part, std::size_t n_parts) {
  return fmt::format("-{:05}-of-{:05}.gguf", part + 1, n_parts);
}

// The value of a key of a split file that must be there.
std::size_t split_value(const GgufMetadata& metadata, std::string_view key, const std::string& file) {
  const std::optional<std::uint64_t> value = metadata.whole(key);
  if (!value) throw Error("no key " + std::string(key), file, "every part of a split file has one");
  return *value;
}

void check_part(const GgufMetadata& metadata, std::size_t part, std::size_t n_parts,
                const std::string& file) {
  for (const auto& [key, expected] :
       {std::pair<std::string_view, std::size_t>("split.count", n_parts), {"split.no", part}}) {
    if (const std::size_t value = split_value(metadata, key, file); value != expected)
      throw Error(fmt::format("{} is {}", key, value), file,
                  fmt::format("expected {}; do all parts belong together?", expected));
  }
}

// Of a readable type; GGUF's dimensions are in the order from the contiguous one on.
TensorView view_of(const GgufTensor& tensor, std::span<const std::byte> data) {
  std::vector<std::size_t> shape(tensor.dimensions.begin(), tensor.dimensions.begin() + tensor.n_dimensions);
  std::reverse(shape.begin(), shape.end());
  return {.name = std::string(tensor.name),
          .dtype = tensor.type.readable.value_or(DType::kF32),
          .shape = std::move(shape),
          .data = data.subspan(tensor.offset, tensor.bytes)};
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  return path.extension() == ".gguf";
}

Gguf::Gguf(const std::filesystem::path& path) {
  Limits limits;
  MappedFile file(path);
  Header header = read_header(file, limits);
  if (header.metadata.whole("split.count").value_or(1) > 1) {
    open_parts(path, header.metadata);
    return;
  }
  add(std::move(file), header.tensors, header.data_begin);
  metadata_ = std::move(header.metadata);
  check_intact();
}

void Gguf::open_parts(const std::filesystem::path& given, const GgufMetadata& metadata) {
  const std::string where = given.string();
  const std::size_t n_parts = split_value(metadata, "split.count", where);
  const std::size_t part = split_value(metadata, "split.no", where);
  if (n_parts > kMaxParts || part >= n_parts)
    throw Error(fmt::format("split.no is {} and split.count {}", part, n_parts), where,
                fmt::format("expected split.no < split.count <= {}", kMaxParts));
  const std::string name = given.filename().string();
  if (!name.ends_with(part_ending(part, n_parts)))
    throw Error(fmt::format("part {} of {} of a split file", part + 1, n_parts), where,
                "expected a name that ends with " + part_ending(part, n_parts) + ", to find the others by");
  const std::string start = name.substr(0, name.size() - part_ending(part, n_parts).size());
  Limits limits;
  for (std::size_t i = 0; i < n_parts; ++i) {
    const std::filesystem::path path = given.parent_path() / (start + part_ending(i, n_parts));
    if (!is_there(path))
      throw Error(fmt::format("part {} of {} is missing", i + 1, n_parts), path.string(),
                  "put all parts into one folder");
    MappedFile file(path);
    Header header = read_header(file, limits);
    check_part(header.metadata, i, n_parts, path.string());
    add(std::move(file), header.tensors, header.data_begin);
    if (i == 0) metadata_ = std::move(header.metadata);
  }
  const std::size_t found = tensors_.size() + unreadable_.size();
  if (const std::size_t expected = whole("split.tensors.count").value_or(found); expected != found)
    throw Error(fmt::format("split.tensors.count is {}", expected), this->path().string(),
                fmt::format("but the {} parts hold {} tensors", n_parts, found));
}

void Gguf::add(MappedFile file, std::span<const GgufTensor> tensors, std::size_t data_begin) {
  const std::span<const std::byte> data = file.bytes().subspan(std::min(file.bytes().size(), data_begin));
  for (const GgufTensor& tensor : tensors) {
    const std::string name(tensor.name);
    bool is_new = false;
    if (tensor.type.readable) {
      const auto [place, inserted] = tensors_.try_emplace(name);
      is_new = inserted && !unreadable_.contains(name);
      place->second = view_of(tensor, data);
    } else {
      is_new = unreadable_.emplace(name, tensor.type.name()).second && !tensors_.contains(name);
    }
    if (!is_new)
      throw Error("tensor " + printable(name, 200) + " occurs twice", file.path().string(),
                  "the file is damaged");
    if (!files_.empty()) later_.emplace(name, files_.size());
  }
  files_.push_back(std::move(file));
}

bool Gguf::contains(std::string_view name) const {
  return tensors_.contains(name) || unreadable_.contains(name);
}

const TensorView& Gguf::tensor(std::string_view name) const {
  if (const auto found = tensors_.find(name); found != tensors_.end()) return found->second;
  const std::string shown = printable(name, 200);
  if (const auto found = unreadable_.find(name); found != unreadable_.end())
    throw Error("tensor " + shown + " is of type " + found->second, path_of(name).string(),
                "expected " + readable_ggml_types());
  throw Error("no tensor " + shown, path().string(), "the file is incomplete or of another model");
}

const std::filesystem::path& Gguf::path_of(std::string_view name) const {
  const auto found = later_.find(name);
  return files_[found == later_.end() ? 0 : found->second].path();
}

void Gguf::check_intact() const {
  for (const MappedFile& file : files_) file.check_intact();
}

std::vector<const MappedFile*> Gguf::files() const {
  std::vector<const MappedFile*> files;
  files.reserve(files_.size());
  for (const MappedFile& file : files_) files.push_back(&file);
  return files;
}

}  // namespace sluice::model
