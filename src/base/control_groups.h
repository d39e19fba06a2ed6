// The memory limits of Linux's control groups, versions 1 and 2.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

namespace sluice {

// Bytes that the limits on this process's group and on those above it leave, file pages that can be dropped counted as free;
// nothing if there is no limit. `mount`: where the groups lie; `membership`: which ones are this process's (cgroups(7)).
std::optional<std::size_t> left_in_control_groups(
    const std::filesystem::path& mount = "/sys/fs/cgroup",
    const std::filesystem::path& membership = "/proc/self/cgroup");

}  // namespace sluice
