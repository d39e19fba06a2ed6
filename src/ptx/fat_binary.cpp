#include "ptx/fat_binary.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include <dlfcn.h>
#include <fmt/format.h>

#include "base/error.h"

namespace sluice::ptx {
namespace {

constexpr std::uint32_t kMagic = 0xba55ed50;
constexpr std::uint32_t kWrapperMagic = 0x466243b1;
constexpr std::uint32_t kElfMagic = 0x464c457f;
constexpr std::uint16_t kPtx = 1;  // kind of an entry
constexpr std::uint64_t kLz4 = 0x2000;
constexpr std::uint64_t kZstd = 0x8000;
constexpr std::size_t kMaxText = std::size_t{1} << 27U;

struct Header {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t header_bytes;
  std::uint64_t bytes;  // of the entries that follow
};

struct Wrapper {
  std::uint32_t magic;
  std::uint32_t version;
  const void* image;
};

struct Entry {
  std::uint16_t kind;
  std::uint16_t version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;             // of what follows the header
  std::uint32_t compressed_bytes;  // the part of them that is used; 0: not compressed
  std::uint32_t unused;
  std::uint16_t ptx_minor, ptx_major;
  std::uint32_t architecture;  // 75 for sm_75
  std::uint64_t unused_too;
  std::uint64_t flags;
  std::uint64_t reserved;
  std::uint64_t text_bytes;  // once decompressed
};

[[noreturn]] void damaged(std::string_view what) {
  throw Error(fmt::format("the fat binary is damaged: {}", what), {}, "compile it again");
}

template <typename T>
T read(std::span<const std::byte> bytes, std::string_view what) {
  if (bytes.size() < sizeof(T)) damaged(fmt::format("it ends within {}", what));
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// LZ4's block format: tokens with a run of literals and a match in what has been written.
std::string lz4(std::span<const std::byte> in, std::size_t size) {
  std::string out;
  out.reserve(size);
  std::size_t at = 0;
  const auto next = [&] {
    if (at == in.size()) damaged("compressed text is cut");
    return std::to_integer<std::size_t>(in[at++]);
  };
  const auto length = [&](std::size_t nibble) {
    std::size_t total = nibble;
    if (nibble == 15)
      for (std::size_t more = 255; more == 255; total += more) more = next();
    return total;
  };
  while (at < in.size()) {
    const std::size_t token = next();
    const std::size_t literals = length(token >> 4U);
    if (literals > in.size() - at || literals > size - out.size()) damaged("compressed text is too long");
    out.append(reinterpret_cast<const char*>(in.data()) + at, literals);
    at += literals;
    if (at == in.size()) break;
    std::size_t offset = next();
    offset |= next() << 8U;
    const std::size_t match = length(token & 15U) + 4;
    if (offset == 0 || offset > out.size() || match > size - out.size())
      damaged("compressed text is inconsistent");
    for (std::size_t i = 0; i < match; ++i) out += out[out.size() - offset];  // may overlap itself
  }
  return out;
}

std::string zstd(std::span<const std::byte> in, std::size_t size) {
  using Decompress = std::size_t (*)(void*, std::size_t, const void*, std::size_t);
  static void* const library = ::dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
  static const auto decompress =
      library == nullptr ? nullptr : reinterpret_cast<Decompress>(::dlsym(library, "ZSTD_decompress"));
  if (decompress == nullptr)
    throw Error("the fat binary's PTX is compressed by Zstandard, and libzstd.so.1 can't be loaded", {},
                "install it (Debian: libzstd1), or compile with nvcc --compress-mode=none");
  std::string out(size, '\0');
  if (decompress(out.data(), size, in.data(), in.size()) != size) damaged("compressed text is inconsistent");
  return out;
}

std::string text_of(const Entry& entry, std::span<const std::byte> payload) {
  const bool compressed = (entry.flags & (kLz4 | kZstd)) != 0;
  if (compressed && (entry.compressed_bytes > payload.size() || entry.text_bytes > kMaxText))
    damaged("an entry is longer than it");
  std::string text;
  if (!compressed)
    text.assign(reinterpret_cast<const char*>(payload.data()), payload.size());
  else if ((entry.flags & kLz4) != 0)
    text = lz4(payload.first(entry.compressed_bytes), entry.text_bytes);
  else
    text = zstd(payload.first(entry.compressed_bytes), entry.text_bytes);
  return text.substr(0, text.find('\0'));  // padding
}

}  // namespace

bool is_fat_binary(std::span<const std::byte> image) {
  return image.size() >= sizeof(Header) && read<std::uint32_t>(image, "its header") == kMagic;
}

std::optional<std::span<const std::byte>> fat_binary_at(const void* image) {
  std::uint32_t magic = 0;
  std::memcpy(&magic, image, sizeof(magic));
  if (magic == kElfMagic)
    throw Error("the image is machine code (a cubin), not PTX", {},
                "compile for a virtual architecture too: nvcc "
                "-gencode arch=compute_80,code=compute_80");
  if (magic == kWrapperMagic) {
    Wrapper wrapper{};
    std::memcpy(&wrapper, image, sizeof(wrapper));
    image = wrapper.image;
    std::memcpy(&magic, image, sizeof(magic));
    if (magic != kMagic) damaged("its wrapper points elsewhere");
  }
  if (magic != kMagic) return std::nullopt;
  Header header{};
  std::memcpy(&header, image, sizeof(header));
  return std::span(static_cast<const std::byte*>(image), header.header_bytes + header.bytes);
}

std::string ptx_of(std::span<const std::byte> image, unsigned compute_capability) {
  const auto header = read<Header>(image, "its header");
  if (header.magic != kMagic || header.header_bytes < sizeof(Header) || header.header_bytes > image.size() ||
      header.bytes > image.size() - header.header_bytes)
    damaged("its header disagrees with its size");
  std::span<const std::byte> rest = image.subspan(header.header_bytes, header.bytes);

  std::optional<std::pair<Entry, std::span<const std::byte>>> best;
  std::string seen;
  while (!rest.empty()) {
    Entry entry{};
    std::memcpy(&entry, rest.data(), std::min(rest.size(), sizeof(entry)));
    if (entry.header_bytes < offsetof(Entry, reserved) || entry.header_bytes > rest.size() ||
        entry.bytes > rest.size() - entry.header_bytes)
      damaged("an entry is longer than it");
    if (entry.header_bytes < sizeof(Entry)) entry.text_bytes = 0;
    const std::span<const std::byte> payload = rest.subspan(entry.header_bytes, entry.bytes);
    seen += fmt::format(" {}_{}", entry.kind == kPtx ? "compute" : "sm", entry.architecture);
    if (entry.kind == kPtx && entry.architecture <= compute_capability &&
        (!best || entry.architecture > best->first.architecture))
      best.emplace(entry, payload);
    rest = rest.subspan(entry.header_bytes + entry.bytes);
  }
  if (!best)
    throw Error(
        fmt::format("the fat binary has no PTX that a GPU of compute capability {}.{} can run; it has{}",
                    compute_capability / 10, compute_capability % 10, seen.empty() ? " nothing" : seen),
        {}, "compile for a virtual architecture too: nvcc -gencode arch=compute_75,code=compute_75");
  return text_of(best->first, best->second);
}

}  // namespace sluice::ptx
