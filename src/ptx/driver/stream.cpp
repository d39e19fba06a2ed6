#include "ptx/driver/stream.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace sluice::ptx::api {

// The thread outlives the handle: a destroyed stream still does what it was told.
struct Stream::Queue {
  struct Operation {
    std::function<void()> run;
    std::vector<Completion> after;
    std::promise<std::chrono::steady_clock::time_point> end;
  };

  void work() {
    while (true) {
      Operation operation;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [this] { return closed || !operations.empty(); });
        if (operations.empty()) return;
        operation = std::move(operations.front());
        operations.pop_front();
      }
      for (const Completion& earlier : operation.after) earlier.wait();
      operation.run();
      operation.run = nullptr;  // what it holds must be gone before the host hears that it has ended
      operation.end.set_value(std::chrono::steady_clock::now());
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Operation> operations;
  bool closed = false;
};

Stream::~Stream() {
  if (!queue_) return;
  const std::lock_guard lock(queue_->mutex);
  queue_->closed = true;
  queue_->changed.notify_all();
}

void Stream::enqueue(std::function<void()> operation, std::vector<Completion> after) {
  if (!queue_) {
    queue_ = std::make_shared<Queue>();
    std::thread([queue = queue_] { queue->work(); }).detach();
  }
  std::promise<std::chrono::steady_clock::time_point> end;
  last = end.get_future();
  const std::lock_guard lock(queue_->mutex);
  queue_->operations.push_back({std::move(operation), std::move(after), std::move(end)});
  queue_->changed.notify_all();
}

}  // namespace sluice::ptx::api
