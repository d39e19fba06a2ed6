#include "base/mapped_file.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(MappedFile, HoldsTheFilesBytes) {
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  for (const std::size_t size : {0U, 1U, 4095U, 4096U, 4097U, 100000U}) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::filesystem::path path = folder.write("data", bytes);
    const MappedFile file(path);
    EXPECT_EQ(file.text(), bytes);
    EXPECT_EQ(file.bytes().size(), size);
    EXPECT_EQ(file.path(), path);
    EXPECT_EQ(read_text_file(path, size), bytes);
  }
}

TEST(MappedFile, MovesWithItsMapping) {
  const test::TempFolder folder;
  MappedFile a(folder.write("a", "first"));
  const std::byte* mapped = a.bytes().data();
  MappedFile b(std::move(a));
  EXPECT_EQ(b.bytes().data(), mapped);
  MappedFile c(folder.write("c", "second"));
  c = std::move(b);
  EXPECT_EQ(c.text(), "first");
  EXPECT_EQ(c.path().filename(), "a");
}

// Pages in use by this mapping, of its `n` first.
std::size_t pages_in_use(const MappedFile& file) {
  std::ifstream maps("/proc/self/smaps");
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<std::uintptr_t>(file.bytes().data()) << '-';
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with(begin.str())) found = true;
    if (found && line.starts_with("Rss:")) return std::stoul(line.substr(4)) * 1024 / 4096;
  }
  return 0;
}

TEST(MappedFile, DropsWholePagesAndReadsThemAgain) {
  const std::size_t page = 4096;
  if (::sysconf(_SC_PAGESIZE) != 4096) GTEST_SKIP() << "pages of another size";
  test::Random random(test::seed_of_test());
  const test::TempFolder folder;
  std::string bytes(40 * page + 100, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  const MappedFile file(folder.write("data", bytes));
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(file.text(), bytes);  // touches all
    ASSERT_EQ(pages_in_use(file), 41U);
    const std::size_t begin = test::pick(random, 0, bytes.size());
    const std::size_t end = test::pick(random, begin, bytes.size());
    file.drop(file.bytes().subspan(begin, end - begin));
    const std::size_t first = (begin + page - 1) / page;
    const std::size_t last = end == bytes.size() ? 41 : end / page;
    EXPECT_EQ(pages_in_use(file), 41 - (first < last && begin < end ? last - first : 0))
        << begin << ' ' << end;
  }
  file.check_intact();
  file.drop({});
}

TEST(MappedFile, AChangeShowsInTheIdentityEvenWithTheTimesSetBack) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("data", "one");
  const MappedFile file(path);
  const FileIdentity before = file.identity();
  EXPECT_EQ(before.size, 3U);
  EXPECT_EQ(MappedFile(path).identity(), before);
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  do {  // until the file system's clock has ticked
    std::ofstream(path, std::ios::in | std::ios::binary) << "two";
    const timespec times[2] = {status.st_atim, status.st_mtim};
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  } while (file.identity() == before && std::chrono::steady_clock::now() < give_up);
  EXPECT_EQ(file.identity().modified_ns, before.modified_ns);
  EXPECT_NE(file.identity().changed_ns, before.changed_ns);
  const std::filesystem::path copy = folder.write("copy", "two");
  EXPECT_NE(MappedFile(copy).identity(), file.identity());
}

TEST(MappedFile, OutlivesTheFilesName) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("gone", "still here");
  const MappedFile file(path);
  std::filesystem::remove(path);
  EXPECT_EQ(file.text(), "still here");
}

// Every byte, so that every page is touched; volatile, so that none is left out.
std::size_t sum_of(std::span<const std::byte> bytes) {
  std::size_t sum = 0;
  for (const std::byte& byte : bytes)
    sum += std::to_integer<std::size_t>(*static_cast<const volatile std::byte*>(&byte));
  return sum;
}

TEST(MappedFile, ThatShrinksReadsAsZerosAndSaysSo) {
  const test::TempFolder folder;
  constexpr std::size_t kSize = 1000 * 1000 + 1;
  // Inside the last page (no fault, only zeros), inside a middle one, at a page's start, to nothing.
  for (const std::size_t left : {kSize - 1, std::size_t{300001}, std::size_t{8192}, std::size_t{0}}) {
    const std::filesystem::path path = folder.write("data", std::string(kSize, '\1'));
    const MappedFile file(path);
    EXPECT_EQ(sum_of(file.bytes()), kSize);
    file.check_intact();
    std::filesystem::resize_file(path, left);
    EXPECT_EQ(sum_of(file.bytes()), left);
    EXPECT_THAT(test::error_of([&] { file.check_intact(); }),
                AllOf(HasSubstr("data"), HasSubstr("shrank"), HasSubstr(std::to_string(kSize)),
                      HasSubstr(std::to_string(left))));
  }
}

TEST(MappedFile, ThatShrankUnseenIsSeenWithoutReading) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("data", std::string(100000, '\1'));
  const MappedFile file(path);
  std::filesystem::resize_file(path, 99999);
  EXPECT_THAT(test::error_of([&] { file.check_intact(); }), HasSubstr("shrank"));
}

TEST(MappedFile, ThatShrankForAMomentIsRemembered) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("data", std::string(100000, '\1'));
  const MappedFile file(path);
  const MappedFile other(folder.write("other", std::string(100000, '\2')));
  std::filesystem::resize_file(path, 0);
  EXPECT_EQ(sum_of(file.bytes()), 0U);
  std::filesystem::resize_file(path, 100000);
  EXPECT_THAT(test::error_of([&] { file.check_intact(); }), HasSubstr("data"));
  EXPECT_EQ(sum_of(other.bytes()), 200000U);
  other.check_intact();
}

// Writes `bytes` into the file itself, as `cp` does; folder.write makes a new one.
void overwrite(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << bytes;
  ASSERT_TRUE(stream.flush());
}

TEST(MappedFile, ThatIsWrittenToIsNotIntact) {
  const test::TempFolder folder;
  const std::string old(5000, '\1');
  const auto change = [](const std::filesystem::path& path, const std::string& how) {
    if (how == "another") overwrite(path, std::string(5000, '\2'));
    if (how == "the same") overwrite(path, std::string(5000, '\1'));
    if (how == "longer") std::filesystem::resize_file(path, 100000);
    if (how == "one byte") {
      std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
      stream.seekp(17).put('\2');
    }
  };
  for (const std::string how : {"another", "the same", "longer", "one byte"}) {
    const std::filesystem::path path = folder.write("data", old);
    // Long ago, so that the time of the change differs however coarse the clock is.
    std::filesystem::last_write_time(path,
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
    const MappedFile file(path);
    file.check_intact();
    change(path, how);
    EXPECT_THAT(test::error_of([&] { file.check_intact(); }),
                AllOf(HasSubstr("data"), HasSubstr("was changed while it was in use")))
        << how;
  }
}

TEST(MappedFile, ThatGoesAwayIsIntact) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("data", std::string(5000, '\1'));
  const MappedFile file(path);
  std::filesystem::create_hard_link(path, folder.path() / "link");
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  sum_of(file.bytes());  // reading it is no change, either
  file.check_intact();
  std::filesystem::rename(path, folder.path() / "elsewhere");
  file.check_intact();
  folder.write("data", "another one");
  file.check_intact();
  std::filesystem::rename(folder.path() / "data", folder.path() / "elsewhere");
  file.check_intact();
  std::filesystem::remove(folder.path() / "link");
  file.check_intact();
  std::filesystem::remove(folder.path() / "elsewhere");
  file.check_intact();
  folder.write("data", "short");  // another file under the same name
  file.check_intact();
  EXPECT_EQ(sum_of(file.bytes()), 5000U);
}

TEST(MappedFile, ManyThreadsMaySeeTheirFilesShrink) {
  const test::TempFolder folder;
  std::vector<std::thread> threads;
  std::atomic<int> refused = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        const std::filesystem::path path = folder.write("data" + std::to_string(i), std::string(50000, '\1'));
        const MappedFile file(path);
        std::filesystem::resize_file(path, 4096);
        if (sum_of(file.bytes()) != 4096) return;
        try {
          file.check_intact();
        } catch (const Error&) {
          ++refused;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused.load(), 8 * 20);
}

TEST(MappedFile, ABusErrorElsewhereStillEndsTheProcess) {
  const test::TempFolder folder;
  const MappedFile guarded(folder.write("guarded", "x"));
  const std::filesystem::path path = folder.write("data", std::string(8192, '\1'));
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(descriptor, 0);
  void* address = ::mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE, descriptor, 0);
  ASSERT_NE(address, MAP_FAILED);
  std::filesystem::resize_file(path, 0);
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(sum_of({static_cast<const std::byte*>(address), 8192}), "");
  ::munmap(address, 8192);
  ::close(descriptor);
}

TEST(MappedFile, WhatIsNoFileIsAnErrorThatNamesIt) {
  const test::TempFolder folder;
  const auto failure = [](const std::filesystem::path& path) {
    return test::error_of([&] { const MappedFile file(path); });
  };
  EXPECT_THAT(failure(folder.path() / "missing"), HasSubstr("missing"));
  EXPECT_THAT(failure(folder.path()), HasSubstr("not a regular file"));
  EXPECT_THAT(failure("/dev/zero"), HasSubstr("not a regular file"));
  // A pipe without a writer would block whoever opens it.
  const std::filesystem::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(failure(pipe), HasSubstr("not a regular file"));
}

TEST(MappedFile, WhatIsThereButCantBeSeenIsThere) {
  const test::TempFolder folder;
  EXPECT_TRUE(is_there(folder.write("file", "")));
  EXPECT_TRUE(is_there(folder.path()));
  EXPECT_FALSE(is_there(folder.path() / "missing"));
  std::filesystem::create_symlink("nowhere", folder.path() / "dangling");
  EXPECT_FALSE(is_there(folder.path() / "dangling"));
  std::filesystem::create_symlink("loop", folder.path() / "loop");
  EXPECT_TRUE(is_there(folder.path() / "loop"));
}

TEST(MappedFile, ATextFileMayNotBeLargerThanItsReaderExpects) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("text", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  EXPECT_THAT(test::error_of([&] { read_text_file(path, 4); }), HasSubstr("text"));
}

}  // namespace
}  // namespace sluice
