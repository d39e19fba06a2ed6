// Limits of control groups, in folders made as cgroups(7) and the kernel's cgroup-v1/memory.rst say.
#include "base/control_groups.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace sluice {
namespace {

namespace fs = std::filesystem;

class ControlGroups : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "sluice-groups-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const fs::path& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  void version1(const fs::path& group, const std::string& limit, const std::string& usage,
                const std::string& droppable) const {
    write(group / "memory.limit_in_bytes", limit + "\n");
    write(group / "memory.usage_in_bytes", usage + "\n");
    write(group / "memory.stat", "cache 5\ninactive_file 1\ntotal_inactive_file " + droppable + "\n");
  }
  void version2(const fs::path& group, const std::string& limit, const std::string& usage) const {
    write(group / "memory.max", limit + "\n");
    write(group / "memory.current", usage + "\n");
    write(group / "memory.stat", "anon 9\ninactive_file 10\n");
  }
  std::optional<std::size_t> left(const std::string& membership) const {
    write("membership", membership);
    return left_in_control_groups(root_, root_ / "membership");
  }

  fs::path root_;
};

TEST_F(ControlGroups, Version1WalksUp) {
  version1("memory", "9223372036854771712", "5000", "0");
  version1("memory/a", "10000", "4000", "500");
  version1("memory/a/b", "3000", "1000", "200");
  EXPECT_EQ(left("12:cpu,cpuacct:/x\n4:memory:/a/b\n1:name=systemd:/y\n"), 2200U);
  version1("memory/a", "4000", "3500", "500");  // the one above is tighter
  EXPECT_EQ(left("4:memory:/a/b\n"), 1000U);
  EXPECT_EQ(left("4:memory:/a/elsewhere/c\n"), 1000U);  // a path that isn't there
  version1("memory/a/b", "1000", "2000", "0");          // beyond its limit
  EXPECT_EQ(left("4:memory:/a/b\n"), 0U);
}

TEST_F(ControlGroups, Version1InAContainer) {
  version1("memory", "7000", "1000", "0");  // the mount is the container's own group
  EXPECT_EQ(left("4:memory:/docker/0123\n"), 6000U);
}

TEST_F(ControlGroups, Version1BesideAnotherController) {
  version1("cpu,memory/a", "7000", "1000", "0");
  EXPECT_EQ(left("4:cpu,memory:/a\n"), 6000U);
}

TEST_F(ControlGroups, Version2WalksUp) {
  version2("a", "5000", "1000");
  version2("a/b", "max", "900");
  EXPECT_EQ(left("0::/a/b\n"), 4010U);
  version2("a/b", "1500", "900");
  EXPECT_EQ(left("0::/a/b\n"), 610U);
  version1("memory/c", "1000", "600", "0");  // both versions at once
  EXPECT_EQ(left("4:memory:/c\n0::/a/b\n"), 400U);
}

TEST_F(ControlGroups, NothingIsLimited) {
  EXPECT_EQ(left(""), std::nullopt);
  EXPECT_EQ(left("0::/\n4:memory:/\nno line of this kind\n:\n"), std::nullopt);
  EXPECT_EQ(left_in_control_groups(root_, root_ / "no such file"), std::nullopt);
}

}  // namespace
}  // namespace sluice
