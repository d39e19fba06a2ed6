#define SLUICE_PTX_ISA portable
#include "ptx/forms_all.h"

const sluice::ptx::Kernels sluice::ptx::kPortableKernels = {"portable", &portable::list_forms,
                                                            &portable::summarize_addresses};
