// What `bench` is asked for, and the model that it measures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench_cases.h"
#include "cli/common_options.h"
#include "cli/step_trace.h"
#include "model/random_model.h"
#include "model/weights.h"

namespace sluice::cli {

struct BenchOptions {
  CommonOptions common;
  std::optional<std::uint64_t> prefill;
  std::optional<std::uint64_t> decode;
  std::optional<std::string> rows;
  std::optional<std::uint64_t> reps;
  std::optional<std::string> shape;
  std::optional<std::string> power_limits;
  TraceOptions trace;
  bool json = false;
};

// The model of --shape, MODEL, or the bundled one.
struct BenchSubject {
  std::string name;
  std::filesystem::path path;  // of a model that is loaded
  std::unique_ptr<model::RandomModel> random;
  std::optional<model::Model> loaded;

  const model::Model& model() const { return loaded ? *loaded : random->model(); }
};

BenchSubject open_subject(const BenchOptions& options);

std::size_t weight_bytes(const model::Model& model);

// Positions of a sequence: what the cases need, or -c, if that is enough.
std::size_t choose_bench_context(const CommonOptions& common, const model::ModelConfig& config,
                                 const std::vector<BenchCase>& cases);

// What to measure how often, from the options.
struct BenchPlan {
  std::vector<BenchCase> cases;
  std::size_t n_slots = 0;
  std::size_t reps = 0;
  std::uint64_t seed = 0;
};
BenchPlan choose_plan(const BenchOptions& options);

}  // namespace sluice::cli
