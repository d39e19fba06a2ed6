#include "cpu/placement.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/workers.h"
#include "tests/support/temp_folder.h"

namespace sluice::cpu {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

// A machine as /sys and /proc show it.
class PlacementFiles : public testing::Test {
 protected:
  void put(const std::string& path, std::string_view text) {
    std::filesystem::create_directories((root_.path() / path).parent_path());
    root_.write(path, text);
  }
  void put_core(int cpu, std::string_view siblings, const std::string& name = "core_cpus_list") {
    put("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + name,
        std::string(siblings) + "\n");
  }
  std::size_t usable(std::size_t n_allowed) {
    std::vector<int> allowed(n_allowed);
    std::iota(allowed.begin(), allowed.end(), 0);
    return find_processors(allowed, root_.path()).n_usable;
  }

  test::TempFolder root_;
};

TEST_F(PlacementFiles, EmptyRootLimitsNothing) {
  const Processors processors = find_processors({1, 4, 2000}, root_.path());
  EXPECT_THAT(processors.cpus, ElementsAre(1, 4, 2000));
  EXPECT_EQ(processors.n_usable, 3U);
}

TEST_F(PlacementFiles, CoresComeBeforeTheirSiblings) {
  for (int cpu = 0; cpu < 8; ++cpu)
    put_core(cpu, std::to_string(cpu % 4) + "," + std::to_string(cpu % 4 + 4));
  EXPECT_THAT(find_processors({0, 1, 2, 3, 4, 5, 6, 7}, root_.path()).cpus,
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  // A sibling whose core's first CPU the mask leaves out is as good as a core.
  EXPECT_THAT(find_processors({1, 4, 5, 6}, root_.path()).cpus, ElementsAre(1, 4, 6, 5));
}

TEST_F(PlacementFiles, SiblingsSideBySideOfOlderKernels) {
  for (int cpu = 0; cpu < 8; ++cpu)
    put_core(cpu, std::to_string(cpu / 4 * 4) + "-" + std::to_string(cpu / 4 * 4 + 3),
             "thread_siblings_list");
  EXPECT_THAT(find_processors({0, 1, 2, 3, 4, 5, 6, 7}, root_.path()).cpus,
              ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
}

TEST_F(PlacementFiles, NonsenseInTopologyIsPassedOver) {
  put_core(0, "0-");
  put_core(1, "99999999999999999999");
  put_core(2, "-5,,7--9");
  put_core(3, "7-2");
  EXPECT_THAT(find_processors({0, 1, 2, 3}, root_.path()).cpus, ElementsAre(0, 1, 2, 3));
}

TEST_F(PlacementFiles, QuotaOfVersion2IsRoundedUp) {
  put("proc/self/cgroup", "0::/box\n");
  put("sys/fs/cgroup/box/cpu.max", "250000 100000\n");
  EXPECT_EQ(usable(8), 3U);
  EXPECT_EQ(usable(2), 2U);
  put("sys/fs/cgroup/box/cpu.max", "max 100000\n");
  EXPECT_EQ(usable(8), 8U);
  put("sys/fs/cgroup/box/cpu.max", "1000 100000\n");
  EXPECT_EQ(usable(8), 1U);
}

TEST_F(PlacementFiles, TheLeastQuotaAboveTheGroupCounts) {
  put("proc/self/cgroup", "0::/a/b/c\n");
  put("sys/fs/cgroup/a/b/c/cpu.max", "700000 100000\n");
  put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  put("sys/fs/cgroup/a/cpu.max", "100000 50000\n");
  EXPECT_EQ(usable(16), 2U);
}

TEST_F(PlacementFiles, QuotaOfVersion1) {
  put("proc/self/cgroup", "3:cpuset:/\n2:cpuacct,cpu:/jobs/one\n0::/\n");
  put("sys/fs/cgroup/cpuacct,cpu/jobs/one/cpu.cfs_quota_us", "400000\n");
  put("sys/fs/cgroup/cpuacct,cpu/jobs/one/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(usable(16), 4U);
  put("sys/fs/cgroup/cpuacct,cpu/jobs/one/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(usable(16), 16U);
}

TEST_F(PlacementFiles, AContainerSeesItsQuotaAtTheRoot) {
  put("proc/self/cgroup", "1:cpu:/docker/0123\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(usable(16), 3U);
  put("proc/self/cgroup", "0::/../other\n");
  put("sys/fs/cgroup/cpu.max", "500000 100000\n");
  EXPECT_EQ(usable(16), 5U);
}

TEST_F(PlacementFiles, NonsenseInQuotasIsPassedOver) {
  put("proc/self/cgroup", "no colons\n:\n::\n0::\n0::box\n7:cpu\n");
  for (const char* text :
       {"", "0 100000", "100000 0", "-3 100000", "99999999999999999999 1", "x y", "5", "1e3 1"}) {
    put("sys/fs/cgroup/cpu.max", text);
    put("sys/fs/cgroup/box/cpu.max", text);
    EXPECT_EQ(usable(4), 4U) << text;
  }
}

TEST(Placement, KnowsThisProcess) {
  const std::vector<int> allowed = allowed_cpus();
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  EXPECT_EQ(allowed.size(), static_cast<std::size_t>(CPU_COUNT(&set)));
  for (const int cpu : allowed) EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(cpu), &set));
  const Processors processors = find_processors();
  EXPECT_THAT(processors.cpus, testing::UnorderedElementsAreArray(allowed));
  EXPECT_GE(usable_processors(), 1U);
  EXPECT_LE(usable_processors(), allowed.size());
}

// Claims are the whole machine's, so tests take a name of their own.
std::string own_domain() {
  return "sluice-test-" + std::to_string(::getpid());
}

Processors processors_of(const std::vector<int>& cpus) {
  return {cpus, cpus.size()};
}

TEST(Placement, InstancesKeepOutOfEachOthersWay) {
  const Processors processors = processors_of({0, 2, 4, 1, 3});
  {
    const Placement first = place(processors, 2, true, own_domain());
    EXPECT_THAT(first.cpus, ElementsAre(0, 2));
    const Placement second = place(processors, 2, true, own_domain());
    EXPECT_THAT(second.cpus, ElementsAre(4, 1));
    const Placement third = place(processors, 2, true, own_domain());
    EXPECT_THAT(third.cpus, IsEmpty());
    EXPECT_EQ(third.n_processors, 5U);
    // One that found too little claims nothing.
    EXPECT_THAT(place(processors, 1, true, own_domain()).cpus, ElementsAre(3));
  }
  EXPECT_THAT(place(processors, 5, true, own_domain()).cpus, SizeIs(5));
}

TEST(Placement, AClaimMovesWithItsPlacement) {
  Placement outer;
  {
    Placement inner = place(processors_of({0, 1}), 1, true, own_domain());
    outer = std::move(inner);
  }
  EXPECT_THAT(place(processors_of({0, 1}), 2, true, own_domain()).cpus, IsEmpty());
  EXPECT_THAT(place(processors_of({0, 1}), 1, true, own_domain()).cpus, ElementsAre(1));
}

// Another process, which dies without a chance to clean up.
TEST(Placement, ClaimsOfAnotherProcessEndWithIt) {
  const std::string domain = own_domain();
  int claimed[2];
  ASSERT_EQ(::pipe2(claimed, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const Placement placement = place(processors_of({0, 1, 2}), 2, true, domain);
    const char n = static_cast<char>(placement.cpus.size());
    if (::write(claimed[1], &n, 1) == 1)
      while (true) ::pause();
    ::_exit(1);
  }
  char n = 0;
  ASSERT_EQ(::read(claimed[0], &n, 1), 1);
  EXPECT_EQ(n, 2);
  EXPECT_THAT(place(processors_of({0, 1, 2}), 1, true, domain).cpus, ElementsAre(2));
  EXPECT_THAT(place(processors_of({0, 1, 2}), 2, true, domain).cpus, IsEmpty());
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_THAT(place(processors_of({0, 1, 2}), 3, true, domain).cpus, ElementsAre(0, 1, 2));
  ::close(claimed[0]);
  ::close(claimed[1]);
}

TEST(Placement, NobodyIsPinnedWhereTheSchedulerKnowsBetter) {
  EXPECT_THAT(place(processors_of({0, 1}), 2, false, own_domain()).cpus, IsEmpty());
  EXPECT_THAT(place(processors_of({0, 1}), 3, true, own_domain()).cpus, IsEmpty());
  EXPECT_THAT(place({{0, 1, 2, 3}, 2}, 2, true, own_domain()).cpus, IsEmpty());  // a quota
}

cpu_set_t affinity_here() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  return set;
}

TEST(Placement, PinsWorkersAndLeavesTheCallerAlone) {
  const cpu_set_t before = affinity_here();
  const Processors processors = processors_of(allowed_cpus());
  const std::size_t n = processors.cpus.size();
  std::vector<cpu_set_t> inside(n);
  {
    Workers workers(n, place(processors, n, true, own_domain()));
    workers.run([&](std::size_t worker) { inside[worker] = affinity_here(); });
    EXPECT_TRUE(CPU_EQUAL(&inside[0], &before));
    for (std::size_t worker = 1; worker < n; ++worker) {
      EXPECT_EQ(CPU_COUNT(&inside[worker]), 1);
      EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(processors.cpus[worker]), &inside[worker]));
    }
  }
  const cpu_set_t after = affinity_here();
  EXPECT_TRUE(CPU_EQUAL(&after, &before));
}

// Long masks have to be asked for with room enough; a CPU that isn't there is refused, and nothing else happens.
TEST(Placement, CpusBeyond1024CanBeNamed) {
  std::thread thread([] {});
  pin(thread, 5000);
  thread.join();
}

}  // namespace
}  // namespace sluice::cpu
