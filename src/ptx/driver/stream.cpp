#include "ptx/driver/stream.h"

#include <thread>
#include <utility>

namespace sluice::ptx::api {

void Completion::finish() {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  when_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

void Completion::wait() const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finished_; });
}

bool Completion::finished() const {
  const std::lock_guard lock(mutex_);
  return finished_;
}

std::chrono::steady_clock::time_point Completion::when() const {
  const std::lock_guard lock(mutex_);
  return when_;
}

Stream::Stream(Context* context, unsigned flags, int priority, std::uint64_t id)
    : context_(context), flags_(flags), priority_(priority), id_(id) {}

CompletionPointer Stream::enqueue(std::function<void()> operation, std::vector<CompletionPointer> after) {
  const std::lock_guard lock(mutex_);
  last_ = std::make_shared<Completion>();
  operations_.push_back({std::move(operation), std::move(after), last_});
  // The thread outlives the handle: a destroyed stream still does what it was told.
  if (!std::exchange(started_, true)) std::thread([self = shared_from_this()] { self->work(); }).detach();
  changed_.notify_all();
  return last_;
}

CompletionPointer Stream::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void Stream::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void Stream::work() {
  while (true) {
    Operation operation;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || !operations_.empty(); });
      if (operations_.empty()) return;
      operation = std::move(operations_.front());
      operations_.pop_front();
    }
    for (const CompletionPointer& earlier : operation.after) earlier->wait();
    operation.run();
    operation.run = nullptr;  // what it holds must be gone before the host hears that it has ended
    operation.completion->finish();
  }
}

}  // namespace sluice::ptx::api
