// What --device names.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sluice::cli {

// The names that --device takes in this program; "cuda" also as "cuda:N".
std::span<const std::string_view> built_in_devices();

// What computes if nothing else is said: the first CUDA device if it can be used, else the cpu. Asks the driver once.
std::string_view default_device();

// Whether the CUDA backend computes: cuda, cuda:N or emulated.
bool is_gpu(std::string_view device);

// N of "cuda:N"; 0 of other names. Nothing if N is no number.
std::optional<std::size_t> device_number(std::string_view device);

// Throws UsageError if there is no such device, Error if it is not built into this program.
void check_device_name(std::string_view device);

// The library of the PTX machine: beside the program, in build tree or installation. Nothing if it is in neither.
std::optional<std::filesystem::path> emulated_library();

}  // namespace sluice::cli
