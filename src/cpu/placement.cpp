#include "cpu/placement.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace sluice::cpu {
namespace {

namespace fs = std::filesystem;

// A mask for CPUs below `n`, as many as the machine may have: cpu_set_t ends at 1024.
class CpuMask {
 public:
  explicit CpuMask(std::size_t n) : n_(n), set_(CPU_ALLOC(n)) {
    if (set_ != nullptr) CPU_ZERO_S(bytes(), set_.get());
  }
  std::size_t bytes() const { return CPU_ALLOC_SIZE(n_); }
  cpu_set_t* get() { return set_.get(); }
  void insert(std::size_t cpu) { CPU_SET_S(cpu, bytes(), set_.get()); }
  bool contains(std::size_t cpu) const { return CPU_ISSET_S(cpu, bytes(), set_.get()) != 0; }

 private:
  struct Free {
    void operator()(cpu_set_t* set) const { CPU_FREE(set); }
  };
  std::size_t n_;
  std::unique_ptr<cpu_set_t, Free> set_;
};

constexpr int kMostCpus = 1 << 20;

template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string> words_of(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> words;
  for (std::string word; words.size() < 2 && file >> word;) words.push_back(word);
  return words;
}

// CPUs of a list such as "0-3,8" that are also in `allowed` (ascending). Nothing if it isn't such a list.
std::vector<int> cpus_in_list(std::string_view list, const std::vector<int>& allowed) {
  std::vector<int> cpus;
  while (!list.empty()) {
    const std::string_view range = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), range.size() + 1));
    const auto first = number<int>(range.substr(0, range.find('-')));
    const auto last =
        range.find('-') == std::string_view::npos ? first : number<int>(range.substr(range.find('-') + 1));
    if (!first || !last) return {};
    const auto begin = std::lower_bound(allowed.begin(), allowed.end(), *first);
    cpus.insert(cpus.end(), begin, std::upper_bound(begin, allowed.end(), *last));
  }
  return cpus;
}

// How many of the allowed CPUs of its core stand before `cpu`: 0 for all but the siblings that SMT adds.
std::size_t rank_in_core(int cpu, const std::vector<int>& allowed, const fs::path& root) {
  const fs::path topology = root / fmt::format("sys/devices/system/cpu/cpu{}/topology", cpu);
  for (const char* name : {"core_cpus_list", "thread_siblings_list"}) {
    const std::vector<std::string> words = words_of(topology / name);
    if (words.empty()) continue;
    const std::vector<int> siblings = cpus_in_list(words[0], allowed);
    return static_cast<std::size_t>(std::lower_bound(siblings.begin(), siblings.end(), cpu) -
                                    siblings.begin());
  }
  return 0;
}

double quota_in(const fs::path& folder) {
  std::vector<std::string> words =
      words_of(folder / "cpu.max");  // version 2: "200000 100000" or "max 100000"
  if (words.empty()) {
    for (const char* name :
         {"cpu.cfs_quota_us", "cpu.cfs_period_us"})  // version 1: "200000" or "-1"; "100000"
      for (const std::string& word : words_of(folder / name)) words.push_back(word);
  }
  constexpr double kNone = std::numeric_limits<double>::infinity();
  if (words.size() != 2) return kNone;
  const auto quota = number<std::int64_t>(words[0]);
  const auto period = number<std::int64_t>(words[1]);
  if (!quota || !period || *quota <= 0 || *period <= 0) return kNone;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// The least of the quotas of `group` and the groups above it. A container sees its own group as the mount's root,
// whatever its path says, so folders that aren't there are passed over.
double quota_from(const fs::path& mount, fs::path group) {
  double quota = quota_in(mount);
  if (std::find(group.begin(), group.end(), "..") != group.end()) return quota;
  for (; !group.empty(); group = group.parent_path()) quota = std::min(quota, quota_in(mount / group));
  return quota;
}

// In processors; infinite if there is none.
double cpu_quota(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  double quota = std::numeric_limits<double>::infinity();
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // NUMBER:CONTROLLERS:/PATH
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = fs::path(line.substr(second + 1)).relative_path();
    if (controllers.empty()) {
      quota = std::min({quota, quota_from(mounts, group), quota_from(mounts / "unified", group)});
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      quota = std::min({quota, quota_from(mounts / controllers, group), quota_from(mounts / "cpu", group)});
    }
  }
  return quota;
}

std::optional<Claim> claim(std::string_view domain, int cpu) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = fmt::format("{}-processor-{}", domain, cpu);
  if (name.size() + 1 > sizeof address.sun_path) return std::nullopt;
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // begins with a zero: abstract
  const int descriptor = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return std::nullopt;
  Claim made(descriptor);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), size) != 0) return std::nullopt;
  return made;
}

}  // namespace

Claim::~Claim() {
  if (socket_ >= 0) ::close(socket_);
}

std::vector<int> allowed_cpus() {
  for (int n = CPU_SETSIZE; n <= kMostCpus; n *= 2) {
    CpuMask mask(static_cast<std::size_t>(n));
    if (mask.get() == nullptr) break;
    if (::sched_getaffinity(0, mask.bytes(), mask.get()) != 0) {
      if (errno == EINVAL) continue;  // the kernel's mask is longer
      break;
    }
    std::vector<int> cpus;
    for (int cpu = 0; cpu < n; ++cpu)
      if (mask.contains(static_cast<std::size_t>(cpu))) cpus.push_back(cpu);
    if (!cpus.empty()) return cpus;
  }
  return {0};
}

Processors find_processors(const std::vector<int>& allowed, const fs::path& root) {
  Processors processors;
  std::vector<std::pair<std::size_t, int>> ranked;
  for (const int cpu : allowed) ranked.emplace_back(rank_in_core(cpu, allowed, root), cpu);
  std::sort(ranked.begin(), ranked.end());
  for (const auto& [rank, cpu] : ranked) processors.cpus.push_back(cpu);
  const double most = std::min(static_cast<double>(allowed.size()), std::ceil(cpu_quota(root)));
  processors.n_usable = std::max<std::size_t>(static_cast<std::size_t>(most), 1);
  return processors;
}

Processors find_processors() {
  return find_processors(allowed_cpus(), "/");
}

std::size_t usable_processors() {
  return find_processors().n_usable;
}

Placement place(const Processors& processors, std::size_t n_workers, bool pin, std::string_view domain) {
  Placement placement;
  placement.n_processors = processors.n_usable;
  if (!pin || n_workers > processors.n_usable || processors.n_usable < processors.cpus.size())
    return placement;
  for (const int cpu : processors.cpus) {
    if (placement.cpus.size() == n_workers) break;
    std::optional<Claim> made = claim(domain, cpu);
    if (!made) continue;
    placement.cpus.push_back(cpu);
    placement.claims.push_back(std::move(*made));
  }
  if (placement.cpus.size() < n_workers) {
    placement.cpus.clear();
    placement.claims.clear();
  }
  return placement;
}

void pin(std::thread& thread, int cpu) {
  CpuMask mask(static_cast<std::size_t>(cpu) + 1);
  if (mask.get() == nullptr) return;
  mask.insert(static_cast<std::size_t>(cpu));
  static_cast<void>(::pthread_setaffinity_np(thread.native_handle(), mask.bytes(), mask.get()));
}

}  // namespace sluice::cpu
