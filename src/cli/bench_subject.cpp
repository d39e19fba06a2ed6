#include "cli/bench_subject.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/exit.h"
#include "cli/input.h"
#include "cli/load.h"
#include "cli/model_path.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kMaxRows = 4096;

std::vector<std::size_t> choose_rows(const std::optional<std::string>& text) {
  if (!text) return {1, 2, 4, 8};
  const auto numbers = parse_integers(*text);
  const std::string advice = fmt::format("give numbers from 1 to {}, such as 1,2,4,8", kMaxRows);
  if (!numbers || numbers->empty()) throw UsageError("not a list of numbers of rows", "--rows", advice);
  std::vector<std::size_t> rows;
  for (const std::int64_t number : *numbers) {
    if (number < 1 || number > std::int64_t{kMaxRows})
      throw UsageError(fmt::format("steps of {} rows can't be", number), "--rows", advice);
    rows.push_back(static_cast<std::size_t>(number));
  }
  return rows;
}

}  // namespace

BenchSubject open_subject(const BenchOptions& options) {
  BenchSubject subject;
  if (options.shape) {
    const auto config = model::known_shape(*options.shape);
    if (!config)
      throw UsageError(fmt::format("there is no shape \"{}\"", *options.shape), "--shape",
                       fmt::format("use {}", fmt::join(model::known_shapes(), ", ")));
    subject.name = *options.shape;
    subject.random = std::make_unique<model::RandomModel>(*config, choose_seed(options.common));
    return subject;
  }
  subject.path = find_model(options.common.model);
  subject.name = options.common.model.value_or(subject.path.filename().string());
  check_loading(model::read_config(subject.path));
  subject.loaded = load(subject.path);
  return subject;
}

std::size_t weight_bytes(const model::Model& model) {
  std::size_t bytes = 0;
  for (const model::ModelTensor& tensor : model.tensors)
    if (!tensor.mtp) bytes += tensor.data.size();
  return bytes;
}

std::size_t choose_bench_context(const CommonOptions& common, const model::ModelConfig& config,
                                 const std::vector<BenchCase>& cases) {
  std::size_t needed = 0;
  for (const BenchCase& what : cases) needed = std::max(needed, what.context());
  const std::size_t context = choose_context(common, config, needed);
  if (context < needed)
    throw UsageError(fmt::format("{} positions are needed, there are {}", needed, context), "-p, -n",
                     "give smaller numbers, or a larger -c up to what the model was made for");
  return context;
}

BenchPlan choose_plan(const BenchOptions& options) {
  constexpr std::size_t kPrefill = 512;
  constexpr std::size_t kDecode = 128;
  constexpr std::size_t kReps = 5;
  const std::vector<std::size_t> rows = choose_rows(options.rows);
  return {.cases = make_cases(rows, options.prefill.value_or(kPrefill), options.decode.value_or(kDecode)),
          .n_slots = *std::ranges::max_element(rows) + 1,
          .reps = options.reps.value_or(kReps),
          .seed = options.common.seed.value_or(0)};
}

}  // namespace sluice::cli
