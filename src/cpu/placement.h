// Where workers run: which processors the process may use, and on which of them its threads stay.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace sluice::cpu {

struct Processors {
  std::vector<int> cpus;     // of the affinity mask: one of each physical core, then the second of each, ...
  std::size_t n_usable = 1;  // what is worth having as workers: at most the control groups' quota, rounded up
};

// CPUs of the calling thread's affinity mask, ascending, however many the machine has. At least one.
std::vector<int> allowed_cpus();

// `allowed` in order, by /sys/devices/system/cpu, and cut to the CPU quotas of the process's control groups and all above
// them (versions 1 and 2), by /proc/self/cgroup and /sys/fs/cgroup. What can't be read limits nothing. `root` stands in
// place of "/".
Processors find_processors(const std::vector<int>& allowed, const std::filesystem::path& root);
Processors find_processors();

// How many workers a process takes if it isn't told: find_processors().n_usable.
std::size_t usable_processors();

// A CPU that other instances leave alone, while it lives or until the process ends, whatever ends it.
class Claim {
 public:
  explicit Claim(int socket) : socket_(socket) {}
  Claim(Claim&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  Claim& operator=(Claim&& other) noexcept {
    std::swap(socket_, other.socket_);
    return *this;
  }
  ~Claim();

 private:
  int socket_;
};

struct Placement {
  std::size_t n_processors = 1;  // that the workers share
  std::vector<int> cpus;         // [workers]  or empty: the scheduler's choice
  std::vector<Claim> claims;     // of `cpus`
};

// Every worker gets a CPU that no other instance on the machine has claimed, in the order of `processors`; if there are not
// enough of them, or if a quota shares out more CPUs than it grants, none is pinned: the scheduler knows better which ones
// are idle. A claim is a Unix socket bound to an abstract name of `domain` and the CPU's number: it needs no file and no
// rights, and is seen by all processes of a network namespace.
Placement place(const Processors& processors, std::size_t n_workers, bool pin,
                std::string_view domain = "sluice");

// Keeps `thread` on `cpu`. A refusal costs speed at most.
void pin(std::thread& thread, int cpu);

}  // namespace sluice::cpu
