#define SLUICE_PTX_ISA avx512
#include "ptx/forms_all.h"

const sluice::ptx::Kernels sluice::ptx::kAvx512Kernels = {"avx512", &avx512::list_forms,
                                                          &avx512::summarize_addresses};
