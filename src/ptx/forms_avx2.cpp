#define SLUICE_PTX_ISA avx2
#include "ptx/forms_all.h"

const sluice::ptx::Kernels sluice::ptx::kAvx2Kernels = {"avx2", &avx2::list_forms,
                                                        &avx2::summarize_addresses};
