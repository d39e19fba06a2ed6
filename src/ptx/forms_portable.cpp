#define SLUICE_PTX_ISA portable
#include "ptx/forms_all.h"

namespace sluice::ptx {

extern const Kernels kPortableKernels;
const Kernels kPortableKernels = {"portable", &portable::list_forms, &portable::summarize_addresses};

}  // namespace sluice::ptx
