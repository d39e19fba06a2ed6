#define SLUICE_PTX_ISA avx512
#include "ptx/forms_all.h"

namespace sluice::ptx {

extern const Kernels kAvx512Kernels;
const Kernels kAvx512Kernels = {"avx512", &avx512::list_forms, &avx512::summarize_addresses};

}  // namespace sluice::ptx
