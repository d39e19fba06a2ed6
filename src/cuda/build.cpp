#include "cuda/build.h"

#ifdef SLUICE_CUDA_IMAGE
// The assembler takes the file in as it is: as a C array it would take the compiler longer than the kernels.
asm(R"(
  .section .rodata
  .balign 16
  .global sluice_cuda_image
  .global sluice_cuda_image_end
sluice_cuda_image:
  .incbin ")" SLUICE_CUDA_IMAGE R"("
sluice_cuda_image_end:
  .byte 0
  .previous
)");
extern "C" {
extern const std::byte sluice_cuda_image[];
extern const std::byte sluice_cuda_image_end[];
}
#endif

namespace sluice::cuda {

#ifdef SLUICE_CUDA_IMAGE

std::string_view why_not_built_in() {
  return {};
}

std::span<const std::byte> fat_binary() {
  return {sluice_cuda_image, sluice_cuda_image_end};
}

std::string_view machine_code() {
  return SLUICE_CUDA_MACHINE_CODE;
}

int toolkit_version() {
  return SLUICE_CUDA_TOOLKIT;
}

#else

std::string_view why_not_built_in() {
  return SLUICE_NO_CUDA;
}

std::span<const std::byte> fat_binary() {
  return {};
}

std::string_view machine_code() {
  return {};
}

int toolkit_version() {
  constexpr int kLeastToolkit = 130;
  return kLeastToolkit;
}

#endif

}  // namespace sluice::cuda
