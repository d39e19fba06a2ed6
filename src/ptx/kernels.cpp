#include "ptx/operation.h"

namespace sluice::ptx {

namespace {

const Kernels& best() {
#ifdef __x86_64__
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 && avx2) return kAvx512Kernels;
  if (avx2) return kAvx2Kernels;
#endif
  return kPortableKernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = best();
  return chosen;
}

void FormTable::add(std::initializer_list<const char*> name, const Form& form) {
  std::string key;
  for (const std::string_view part : name) {
    if (!key.empty() && !part.empty()) key += '.';
    key += part;
  }
  all[key] = form;
}

}  // namespace sluice::ptx
