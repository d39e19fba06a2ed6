#include "cpu/packed_cache.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "base/error.h"
#include "cpu/content_key.h"

namespace sluice::cpu {
namespace {

namespace fs = std::filesystem;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::vector<FileIdentity> identities_of(const std::vector<const MappedFile*>& files) {
  std::vector<FileIdentity> identities;
  for (const MappedFile* file : files) identities.push_back(file->identity());
  return identities;
}

Hash128 hash_of(const std::vector<FileIdentity>& identities) {
  Hasher hasher;
  for (const FileIdentity& file : identities) {
    hasher.add(file.device);
    hasher.add(file.inode);
    hasher.add(file.size);
    hasher.add(file.modified_ns);
    hasher.add(file.changed_ns);
  }
  return hasher.digest();
}

// "sluice source 1 CONTENT CHECK\n"
std::string note_of(Hash128 identity, Hash128 content) {
  Hasher hasher;
  for (const Hash128& hash : {identity, content}) {
    hasher.add(hash.low);
    hasher.add(hash.high);
  }
  return fmt::format("sluice source 1 {} {}\n", content.hex(), hasher.digest().hex());
}

// The content that was noted down of files of this identity; nothing if there is no such note, or a damaged one.
std::optional<Hash128> noted_content(const fs::path& note, Hash128 identity) {
  constexpr std::size_t kBegin = std::string_view("sluice source 1 ").size();
  constexpr std::size_t kDigits = 16;
  std::error_code error;
  if (!fs::is_regular_file(note, error)) return std::nullopt;  // opening a pipe would wait for its other end
  std::string text(note_of({}, {}).size() + 1, '\0');
  std::ifstream file(note, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() < kBegin + 2 * kDigits) return std::nullopt;
  Hash128 content;
  const char* digits = text.data() + kBegin;
  std::from_chars(digits, digits + kDigits, content.high, 16);
  std::from_chars(digits + kDigits, digits + 2 * kDigits, content.low, 16);
  if (text != note_of(identity, content)) return std::nullopt;
  return content;
}

constexpr std::string_view kAdvice = "set SLUICE_CACHE_DIR to a folder that can be written";

void make_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::is_directory(folder, error)) return;
  fs::create_directories(folder, error);
  if (error) throw Error("the folder can't be made: " + error.message(), folder.string(), kAdvice);
  fs::permissions(folder, fs::perms::owner_all, error);
}

// Written beside its place and moved there.
void write_note(const fs::path& note, const std::string& text) {
  std::string name = note.string() + ".XXXXXX";
  const int fd = ::mkstemp(name.data());
  if (fd < 0) throw Error("no file can be made there", note.parent_path().string(), kAdvice);
  const bool good = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(fd);
  if (good && ::rename(name.c_str(), note.c_str()) == 0) return;
  ::unlink(name.c_str());
  throw Error("can't be written", note.string(), kAdvice);
}

// What processes that were killed have left: new files get their names within a moment.
void remove_leftovers(const fs::path& folder) {
  constexpr auto kOld = std::chrono::hours(24);
  std::error_code error;
  for (fs::directory_iterator it(folder, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    const fs::directory_entry& entry = *it;
    const std::string name = entry.path().stem().string();
    const bool temporary = name.ends_with(".packed") || name.ends_with(".source");
    std::error_code gone;
    const auto written = entry.last_write_time(gone);
    if (temporary && !gone && fs::file_time_type::clock::now() - written > kOld)
      fs::remove(entry.path(), gone);
  }
}

}  // namespace

bool is_settled(const std::vector<FileIdentity>& files, std::int64_t now) {
  constexpr std::int64_t kTicks =
      3'000'000'000;  // the coarsest clocks of file systems tick every two seconds
  return std::ranges::all_of(files, [&](const FileIdentity& file) {
    return std::max(file.changed_ns, file.modified_ns) < now - kTicks;
  });
}

bool PackedCache::read_or_make(const model::Model& model, const PackingPlan& plan, Workers& workers,
                               const LoadEvents& events, std::span<std::byte> block,
                               const std::function<void()>& pack) const {
  const std::vector<const MappedFile*> files = model.storage->files();
  if (files.empty()) {
    pack();
    return false;
  }
  const auto warn = [&](const std::string& what, const Error& error) {
    if (events.warn) events.warn(fmt::format("{}: {}", what, error.what()));
  };
  const std::vector<FileIdentity> identities = identities_of(files);
  const Hash128 identity = hash_of(identities);
  const bool settled = is_settled(identities, now_ns());
  const fs::path note = folder_ / (identity.hex() + ".source");
  std::optional<Hash128> content = noted_content(note, identity);
  const bool noted = content.has_value();
  if (!noted) content = content_key(files, workers, events);
  const Hash128 layout = plan.fingerprint();
  const PackedFile file(folder_ / fmt::format("{}-{}.packed", content->hex(), layout.hex()), *content, plan,
                        layout);
  bool is_read = false;
  try {
    is_read = file.read(workers, events, block);
  } catch (const Error& error) {
    warn("the packed file is not used and made anew", error);
  }
  if (!is_read) pack();
  model.storage->check_intact();
  try {
    if (!is_read) {
      make_folder(folder_);
      remove_leftovers(folder_);
      file.write(workers, events, block);
    }
    if (!noted && settled && identities_of(files) == identities)
      write_note(note, note_of(identity, *content));
  } catch (const Error& error) {
    warn(is_read ? "the next start reads the model's files again" : "the packed weights are not kept", error);
  }
  return is_read;
}

}  // namespace sluice::cpu
