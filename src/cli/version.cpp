#include "cli/version.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commit.h"  // SLUICE_COMMIT, made by commit.cmake at build time
#include "cli/device_names.h"
#include "cuda/build.h"

namespace sluice::cli {
namespace {

#if defined(__x86_64__)
constexpr std::string_view kIsa = "x86-64 (portable, avx2, avx512, avx512_bf16, amx_bf16)";
#elif defined(__aarch64__)
constexpr std::string_view kIsa = "aarch64 (portable)";
#else
constexpr std::string_view kIsa = "portable";
#endif

}  // namespace

std::string_view version() {
  return SLUICE_VERSION;
}

std::string_view commit() {
  return SLUICE_COMMIT;
}

std::string version_text() {
  const std::string kernels = cuda::is_built_in()
                                  ? fmt::format("PTX compute_75 compute_80, machine code {}",
                                                cuda::machine_code().empty() ? "none" : cuda::machine_code())
                                  : fmt::format("not built in: {}", cuda::why_not_built_in());
  return fmt::format("sluice {} (commit {})\nisa: {}\ndevices: {}\ncuda: {}", version(), commit(), kIsa,
                     fmt::join(built_in_devices(), ", "), kernels);
}

}  // namespace sluice::cli
