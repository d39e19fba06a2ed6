#include "cpu/parallel.h"

#include <atomic>
#include <exception>
#include <mutex>

namespace sluice::cpu {

void parallel_for(Workers& workers, std::size_t n, const std::function<void(std::size_t, std::size_t)>& work,
                  const std::function<void(std::size_t)>& on_done) {
  std::atomic<std::size_t> next = 0;
  std::atomic<std::size_t> done = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  workers.run([&](std::size_t worker) {
    try {
      for (std::size_t i = next.fetch_add(1); i < n; i = next.fetch_add(1)) {
        work(worker, i);
        const std::size_t over = ++done;
        if (worker == 0 && on_done) on_done(over);
      }
    } catch (...) {
      next.store(n);
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  if (on_done) on_done(n);
}

}  // namespace sluice::cpu
