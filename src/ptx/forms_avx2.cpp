#define SLUICE_PTX_ISA avx2
#include "ptx/forms_all.h"

namespace sluice::ptx {

extern const Kernels kAvx2Kernels;
const Kernels kAvx2Kernels = {"avx2", &avx2::list_forms, &avx2::summarize_addresses};

}  // namespace sluice::ptx
