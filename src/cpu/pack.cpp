#include "cpu/pack.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "cpu/panels.h"
#include "cpu/parallel.h"

namespace sluice::cpu {
namespace {

using Bytes = std::span<const std::byte>;

bool contains(Bytes outer, Bytes inner) {
  const std::less_equal<> before;  // of any two addresses
  return before(outer.data(), inner.data()) &&
         before(inner.data() + inner.size(), outer.data() + outer.size());
}

// Gives the pages of what was read back, range by range.
class Dropper {
 public:
  explicit Dropper(const std::vector<const MappedFile*>& files) : files_(files) {}
  ~Dropper() { drop(); }
  Dropper(const Dropper&) = delete;
  Dropper& operator=(const Dropper&) = delete;

  // `bytes` are read. Ranges that follow each other are dropped as one.
  void done_with(Bytes bytes) {
    if (!range_.empty() && range_.data() + range_.size() == bytes.data()) {
      range_ = {range_.data(), range_.size() + bytes.size()};
      return;
    }
    drop();
    range_ = bytes;
  }

 private:
  void drop() {
    for (const MappedFile* file : files_)
      if (!range_.empty() && contains(file->bytes(), range_)) file->drop(range_);
  }

  const std::vector<const MappedFile*>& files_;
  Bytes range_;
};

// What a worker does at a time: parts [begin, end) of the plan, or a piece of a tensor that is only looked at.
struct Job {
  std::size_t begin = 0;
  std::size_t end = 0;
  model::DType dtype = model::DType::kF32;
  Bytes looked_at;
};

// Small enough that all workers end at about the same time, large enough that dropping its pages costs little.
std::size_t job_bytes(std::size_t total, std::size_t n_workers) {
  constexpr std::size_t kLeast = std::size_t{64} << 10U;
  constexpr std::size_t kMost = std::size_t{4} << 20U;
  return std::clamp(total / (8 * n_workers), kLeast, kMost);
}

// Where the matrices begin that are packed.
std::set<const std::byte*> packed_matrices(const PackingPlan& plan) {
  std::set<const std::byte*> matrices;
  const model::Matrix* last = nullptr;
  for (const PackedPart& part : plan.parts()) {
    for (std::size_t panel = 0; panel < part.n_panels(); ++panel) {
      for (const SourceRow& row : plan.rows_of(part, panel)) {
        if (row.matrix == nullptr || row.matrix == last) continue;
        last = row.matrix;
        matrices.insert(last->data.data());
      }
    }
  }
  return matrices;
}

std::vector<Job> make_jobs(const model::Model& model, const PackingPlan& plan, std::size_t n_workers) {
  const std::size_t wanted = job_bytes(plan.bytes(), n_workers);
  std::vector<Job> jobs;
  std::size_t bytes = wanted;
  for (std::size_t i = 0; i < plan.parts().size(); ++i) {
    if (bytes >= wanted) {
      jobs.push_back({.begin = i, .end = i, .dtype = {}, .looked_at = {}});
      bytes = 0;
    }
    jobs.back().end = i + 1;
    bytes += plan.parts()[i].bytes;
  }
  const std::set<const std::byte*> packed = packed_matrices(plan);
  for (const model::ModelTensor& tensor : model.tensors) {
    if (packed.contains(tensor.data.data())) continue;
    const std::size_t block = model::bytes_of(tensor.dtype, model::block_size(tensor.dtype));
    const std::size_t step = std::max(wanted / block, std::size_t{1}) * block;
    for (std::size_t begin = 0; begin < tensor.data.size(); begin += step)
      jobs.push_back({.begin = 0,
                      .end = 0,
                      .dtype = tensor.dtype,
                      .looked_at = tensor.data.subspan(begin, std::min(step, tensor.data.size() - begin))});
  }
  return jobs;
}

bool pack_parts(const PackingPlan& plan, const Job& job, PanelMaker& maker, Dropper& dropper,
                std::span<std::byte> block) {
  bool finite = true;
  for (std::size_t i = job.begin; i < job.end; ++i) {
    const PackedPart& part = plan.parts()[i];
    const OpPlan& op = plan.ops()[part.op];
    std::byte* to = block.data() + part.memory;
    for (std::size_t panel = 0; panel < part.n_panels(); ++panel, to += part.panel_bytes()) {
      const std::array<SourceRow, kLanes> rows = plan.rows_of(part, panel);
      if (op.kind == program::OpKind::kScreen) {
        maker.make_screen(rows, op.depth, to);
      } else {
        finite = maker.make(rows, op.depth, op.tiles[part.tile].is_bf16, to) && finite;
      }
      for (const SourceRow& row : rows)
        if (row.matrix != nullptr) dropper.done_with(stored_row(row));
    }
  }
  return finite;
}

}  // namespace

void pack(const model::Model& model, const PackingPlan& plan, Workers& workers, const LoadEvents& events,
          std::span<std::byte> block) {
  SLUICE_CHECK(block.size() == plan.bytes());
  const std::vector<const MappedFile*> files = model.storage->files();
  const std::vector<Job> jobs = make_jobs(model, plan, workers.size());
  std::vector<PanelMaker> makers(workers.size());
  std::atomic<bool> finite = true;
  parallel_for(
      workers, jobs.size(),
      [&](std::size_t worker, std::size_t i) {
        Dropper dropper(files);
        const Job& job = jobs[i];
        const bool good = job.looked_at.empty() ? pack_parts(plan, job, makers[worker], dropper, block)
                                                : model::all_finite(job.dtype, job.looked_at);
        if (!job.looked_at.empty()) dropper.done_with(job.looked_at);
        if (!good) finite.store(false, std::memory_order_relaxed);
      },
      [&](std::size_t done) {
        if (events.progress) events.progress(LoadStage::kPack, done, jobs.size());
      });
  // Pages on the borders of jobs.
  for (const MappedFile* file : files) file->drop(file->bytes());
  model.storage->check_intact();
  if (finite) return;
  model::check_finite(model);  // knows which
  throw Error("a weight is infinite or not a number", "model", "the checkpoint is damaged");
}

}  // namespace sluice::cpu
