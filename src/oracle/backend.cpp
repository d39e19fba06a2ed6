#include "oracle/backend.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "oracle/oracle.h"

namespace sluice::oracle {
namespace {

class OracleBackend final : public program::Backend {
 public:
  OracleBackend(const model::Model& model, std::size_t n_slots, std::size_t context)
      : model_(model), context_(context), slots_(n_slots, empty_state<float>(model.config)) {}

  std::string_view name() const override { return "oracle"; }
  const model::ModelConfig& config() const override { return model_.config; }
  std::size_t n_slots() const override { return slots_.size(); }
  std::size_t context() const override { return context_; }

  void reset(std::size_t slot) override {
    SLUICE_CHECK(slot < slots_.size());
    slots_[slot] = empty_state<float>(model_.config);
  }

  using program::Backend::run;
  program::StepResult run(const program::Step& step) override {
    std::vector<std::size_t> lengths;
    for (const SequenceState<float>& slot : slots_) lengths.push_back(slot.length);
    program::validate(step, model_.config, context_, lengths);

    program::StepResult result;
    auto output = step.outputs.begin();
    for (const program::Span& span : step.spans) {
      for (std::size_t row = span.first_row; row < span.first_row + span.n_rows; ++row) {
        if (step.interrupted != nullptr && step.interrupted->load()) throw program::StepInterrupted();
        const std::vector<float> hidden = feed<float>(model_, slots_[span.slot], step.tokens[row]);
        if (output == step.outputs.end() || output->row != row) continue;
        answer(*output, logits<float>(model_, hidden), result);
        ++output;
      }
    }
    return result;
  }

 private:
  static void answer(const program::Output& output, const std::vector<float>& logits,
                     program::StepResult& result) {
    result.tokens.push_back(output.choice ? program::choose(logits, *output.choice) : -1);
    if (output.return_logits) result.logits.insert(result.logits.end(), logits.begin(), logits.end());
  }

  const model::Model& model_;
  std::size_t context_;
  std::vector<SequenceState<float>> slots_;
};

}  // namespace

std::unique_ptr<program::Backend> make_backend(const model::Model& model, std::size_t n_slots,
                                               std::size_t context) {
  return std::make_unique<OracleBackend>(model, n_slots, context);
}

}  // namespace sluice::oracle
