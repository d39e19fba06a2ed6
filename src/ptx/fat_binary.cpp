#include "ptx/fat_binary.h"

#include <algorithm>
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

// A function of a compression library, which is loaded when a text needs it, so that nothing else asks for it.
template <typename Function>
Function* function_of(const char* library, const char* name) {
  void* const loaded = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  auto* const function = loaded == nullptr ? nullptr : reinterpret_cast<Function*>(::dlsym(loaded, name));
  if (function == nullptr)
    throw Error(fmt::format("the fat binary's PTX is compressed, and {} can't be loaded", library), {},
                "install it (Debian: libzstd1, liblz4-1), or compile with nvcc --compress-mode=none");
  return function;
}

std::string decompressed(std::span<const std::byte> in, std::size_t size, bool is_lz4) {
  using Zstd = std::size_t(void* to, std::size_t room, const void* from, std::size_t size);
  using Lz4 = int(const char* from, char* to, int size, int room);
  std::string out(size, '\0');
  std::size_t written = 0;
  if (is_lz4) {
    static const auto lz4 = function_of<Lz4>("liblz4.so.1", "LZ4_decompress_safe");
    written = static_cast<std::size_t>(lz4(reinterpret_cast<const char*>(in.data()), out.data(),
                                           static_cast<int>(in.size()), static_cast<int>(size)));
  } else {
    static const auto zstd = function_of<Zstd>("libzstd.so.1", "ZSTD_decompress");
    written = zstd(out.data(), size, in.data(), in.size());
  }
  if (written != size) damaged("compressed text is inconsistent");
  return out;
}

std::string text_of(const Entry& entry, std::span<const std::byte> payload) {
  std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
  if ((entry.flags & (kLz4 | kZstd)) != 0) {
    if (entry.compressed_bytes > payload.size() || std::max(payload.size(), entry.text_bytes) > kMaxText)
      damaged("an entry is longer than it");
    text = decompressed(payload.first(entry.compressed_bytes), entry.text_bytes, (entry.flags & kLz4) != 0);
  }
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
