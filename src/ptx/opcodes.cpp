#include "ptx/opcodes.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "ptx/decode.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

using D = FunctionDecoder;

// What the syntax below calls $name; a set of two lines makes two rows of each.
struct WordSet {
  std::string_view name, words;
};
constexpr WordSet kSets[] = {
    {"$integers", "u16|u32|u64|s16|s32|s64"},
    {"$all_integers", "u8|s8|$integers"},
    {"$numbers", "b16|b32|b64|$integers|f32|f64"},
    {"$order", "eq|ne|lt|le|gt|ge"},
    {"$real_order", "$order|equ|neu|ltu|leu|gtu|geu|num|nan"},
    {"$data", "?v2|v4 b32|u32|s32|f32|b16|u16|s16|b8|u8|s8"},
    {"$data", "?v2 b64|u64|s64|f64"},
    {"$eviction",
     "~L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate ~L2::cache_hint"},
    {"$prefetch", "~L2::64B|L2::128B|L2::256B"},
    {"$scopes", "cta|cluster|gpu|sys"},
    {"$shared", "global|shared|shared::cta"},
    {"$spaces", "$shared|local|const|param|param::entry"},
    {"$atom", "atom ?relaxed|acquire|release|acq_rel ?$scopes ?$shared"},
    {"$update", "$atom"},
    {"$update", "red ?relaxed|release ?$scopes ?$shared"},
};

// Words: one alternative from each slot; `?`: or none; `~`: or none, and it is a hint; `=`: which one is Operation::variant (from
// 1, 0 for none, behind `?`). Operands: d. is the destination, T the opcode's first type, ?u32 may be missing, # is a constant
// from 0 on, #9 one up to 9.
constexpr Opcode kOpcodes[] = {
    // Data movement and conversion
    {"mov pred|$numbers", &D::mov},
    {"cvt $all_integers $all_integers", &D::cvt},
    {"cvt sat u8|u16|u32|u64 s8|s16|s32|s64",
     &D::cvt},  // where the source has values that the destination lacks
    {"cvt sat u8|s8|s16 u16|u32|u64", &D::cvt},
    {"cvt sat u16|s32 u32|u64", &D::cvt},
    {"cvt sat u32|s64 u64", &D::cvt},
    {"cvt sat s8 u8|s16|s32|s64", &D::cvt},
    {"cvt sat s16 s32|s64", &D::cvt},
    {"cvt sat s32 s64", &D::cvt},
    {"cvt rni|rzi|rmi|rpi ?ftz ?sat $all_integers f32", &D::cvt},
    {"cvt rni|rzi|rmi|rpi ?sat $all_integers f16|f64", &D::cvt},
    {"cvt rn|rz|rm|rp ?sat f16|f32|f64 $all_integers", &D::cvt},
    {"cvt ?rni|rzi|rmi|rpi ?ftz ?sat f32 f32", &D::cvt},
    {"cvt ?rni|rzi|rmi|rpi ?sat f16 f16", &D::cvt},
    {"cvt ?rni|rzi|rmi|rpi ?sat f64 f64", &D::cvt},
    {"cvt ?ftz ?sat f32 f16", &D::cvt},
    {"cvt ?sat f64 f16", &D::cvt},
    {"cvt ?ftz ?sat f64 f32", &D::cvt},
    {"cvt f32 bf16", &D::cvt},
    {"cvt rn|rz|rm|rp ?ftz ?sat f32 f64", &D::cvt},
    {"cvt rn|rz|rm|rp ?ftz ?sat f16 f32", &D::cvt},
    {"cvt rn|rz|rm|rp ?sat f16 f64", &D::cvt},
    {"cvt rn|rz relu f16 f32", &D::cvt},
    {"cvt rn|rz ?relu bf16|f16x2|bf16x2 f32", &D::cvt},
    {"cvt rna tf32 f32", &D::cvt},
    {"cvta $spaces u64", "d.u64 u64", run::to_generic, 0, &D::cvta},
    {"cvta to $spaces u64", "d.u64 u64", run::from_generic, 0, &D::cvta},
    {"isspacep $spaces", "d.pred u64", run::is_in_space},
    {"prmt b32 ?=f4e|b4e|rc8|ecl|ecr|rc16", "d.b32 b32 b32 b32", ".prmt"},
    {"ld ~weak ?$spaces|param::func ~ca|cg|cs|lu|cv $eviction $prefetch $data", &D::load_store},
    {"ld volatile ?$shared $data", &D::load_store},
    {"ld relaxed|acquire $scopes ?$shared $eviction $prefetch $data", &D::load_store},
    {"ld global nc ~ca|cg|cs $eviction $prefetch $data", &D::load_store},
    {"ldu ?global $data", &D::load_store},
    {"st ~weak ?$shared|local|param|param::func ~wb|cg|cs|wt $eviction $data", &D::load_store},
    {"st volatile ?$shared $data", &D::load_store},
    {"st relaxed|release $scopes ?$shared $eviction $data", &D::load_store},
    {"prefetch ?global|local L1|L2", &D::hint},
    {"prefetch global L2::evict_last|L2::evict_normal", &D::hint},
    {"prefetchu L1", &D::hint},
    {"cp async ca|cg shared|shared::cta global ~L2::64B|L2::128B|L2::256B", &D::copy_async},
    {"cp async commit_group", "", run::commit_copies},
    {"cp async wait_group", "#", run::wait_copies},
    {"cp async wait_all", "", run::wait_copies, 0, &D::wait_all},
    // Comparison and selection
    {"setp $order ?and|or|xor $integers", &D::compare},
    {"setp lo|ls|hi|hs ?and|or|xor u16|u32|u64", &D::compare},
    {"setp eq|ne ?and|or|xor b16|b32|b64", &D::compare},
    {"setp $real_order ?and|or|xor ?ftz f32|f16|f16x2", &D::compare},
    {"setp $real_order ?and|or|xor f64|bf16|bf16x2", &D::compare},
    {"set $order ?and|or|xor u32|s32|f32|f16|bf16 $integers", &D::compare},
    {"set lo|ls|hi|hs ?and|or|xor u32|s32|f32|f16|bf16 u16|u32|u64", &D::compare},
    {"set eq|ne ?and|or|xor u32|s32|f32|f16|bf16 b16|b32|b64", &D::compare},
    {"set $real_order ?and|or|xor ?ftz u32|s32|f32|f16 f32", &D::compare},
    {"set $real_order ?and|or|xor bf16 f32", &D::compare},
    {"set $real_order ?and|or|xor u32|s32|f32|f16|bf16 f64", &D::compare},
    {"set $real_order ?and|or|xor ?ftz u16|s16|u32|s32|f16 f16", &D::compare},
    {"set $real_order ?and|or|xor u16|s16|u32|s32|bf16 bf16", &D::compare},
    {"set $real_order ?and|or|xor ?ftz u32|s32|f16x2 f16x2", &D::compare},
    {"set $real_order ?and|or|xor u32|s32|bf16x2 bf16x2", &D::compare},
    {"selp $numbers", "d.T T T pred", ".selp"},
    {"slct $numbers s32", "d.T T T s32", ".slct.s32"},
    {"slct $numbers f32", "d.T T T f32", ".slct.f32"},
    {"slct ftz $numbers f32", "d.T T T f32", ".slct.ftz.f32"},
    // Logic, and arithmetic with carry
    {"lop3 b32", "d.b32 b32 b32 b32 #255", ".lop3"},
    {"add|sub cc u32|s32|u64|s64", &D::carry},
    {"addc|subc ?cc u32|s32|u64|s64", &D::carry},
    {"mad lo|hi cc u32|s32|u64|s64", &D::carry},
    {"madc lo|hi ?cc u32|s32|u64|s64", &D::carry},
    // Matrices
    {"mma sync aligned m16n8k8|m16n8k16 row col f32 f16 f16 f32", &D::mma},
    {"mma sync aligned m16n8k8|m16n8k16 row col f16 f16 f16 f16", &D::mma},
    {"mma sync aligned m16n8k8|m16n8k16 row col f32 bf16 bf16 f32", &D::mma},
    {"mma sync aligned m16n8k4|m16n8k8 row col f32 tf32 tf32 f32", &D::mma},
    {"mma sync aligned m8n8k4 row col f64 f64 f64 f64", &D::mma},
    {"mma sync aligned m8n8k16|m16n8k16|m16n8k32 row col ?satfinite s32 s8|u8 s8|u8 s32", &D::mma},
    {"ldmatrix sync aligned m8n8 x1|x2|x4 ?=trans ?shared|shared::cta b16", &D::load_matrix},
    {"movmatrix sync aligned m8n8 trans b16", "d.b32 b32", run::move_matrix},
    // Atomics and order
    {"$update add ~L2::cache_hint u32|s32|u64|f32|f64", &D::atomic},
    {"$update add noftz ~L2::cache_hint f16|bf16|f16x2|bf16x2", &D::atomic},
    {"$update min|max ~L2::cache_hint u32|s32|u64|s64", &D::atomic},
    {"$update and|or|xor ~L2::cache_hint b32|b64", &D::atomic},
    {"$update inc|dec ~L2::cache_hint u32", &D::atomic},
    {"$atom exch ~L2::cache_hint b32|b64", &D::atomic},
    {"$atom cas b16|b32|b64", &D::atomic},
    {"membar cta|gl|sys", "", run::fence, 0, &D::fence},
    {"fence ?acq_rel|sc cta|gpu|sys", "", run::fence, 0, &D::fence},
    // Of blocks and warps
    {"bar ?cta sync", "u32 ?u32", run::barrier, 0},
    {"bar ?cta arrive", "u32 u32", run::barrier, 1},
    {"bar ?cta red popc u32", "d.u32 u32 ?u32 pred", run::barrier, 2},
    {"bar ?cta red =and|or pred", "d.pred u32 ?u32 pred", run::barrier, 3},
    {"barrier ?cta sync ?aligned", "u32 ?u32", run::barrier, 0, &D::barrier},
    {"barrier ?cta arrive ?aligned", "u32 u32", run::barrier, 1, &D::barrier},
    {"barrier ?cta red popc ?aligned u32", "d.u32 u32 ?u32 pred", run::barrier, 2, &D::barrier},
    {"barrier ?cta red =and|or ?aligned pred", "d.pred u32 ?u32 pred", run::barrier, 3, &D::barrier},
    {"bar warp sync", "b32", run::warp_barrier},
    {"shfl sync =up|down|bfly|idx b32", "d.b32|pred b32 b32 b32 b32", run::shuffle},
    {"vote sync =all|any|uni pred", "d.pred pred b32", run::vote},
    {"vote sync ballot b32", "d.b32 pred b32", run::vote, 3},
    {"match any sync b32|b64", "d.b32 T b32", run::match},
    {"match all sync b32|b64", "d.b32|pred T b32", run::match, 1},
    {"redux sync =add|min|max u32", "d.b32 b32 b32", run::reduce},
    {"redux sync add s32", "d.b32 b32 b32", run::reduce},
    {"redux sync =min|max s32", "d.b32 b32 b32", run::reduce, 3},
    {"redux sync =and|or|xor b32", "d.b32 b32 b32", run::reduce, 5},
    {"activemask b32", "d.b32", run::active_mask},
    // Control flow
    {"bra ?uni", &D::branch},
    {"brx idx ?uni", &D::branch},
    {"call ?uni", &D::call},
    {"ret ?uni", "", run::leave, 0, &D::leave},
    {"exit", "", run::exit, 0, &D::leave},
    {"trap", "", run::trap, 0, &D::leave},
    {"nanosleep u32", "u32", run::sleep},
};

// What not every target has: the first that does, which opcodes (* any), and one of which words. The highest that fits counts.
struct Since {
  std::uint32_t target;
  std::string_view names, words;
};
constexpr Since kSince[] = {
    {80, "*", "bf16|bf16x2|tf32|relu|L2::256B|L2::cache_hint"},
    {80, "cvt", "f16x2"},
    {80, "min|max", "NaN|f16|f16x2"},
    {80, "cp", "async"},
    {80, "redux", "sync"},
    {80, "prefetch", "L2::evict_last|L2::evict_normal"},
    {80, "mma", "f64|m16n8k16|m16n8k32"},
    {86, "min|max", "xorsign"},
    {90, "add|sub|mul|set|setp|tanh|ex2|atom|red", "bf16|bf16x2"},
    {90, "*", "cluster"},
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// Whether `word` is one of "a|b|c".
bool lists(std::string_view list, std::string_view word) {
  for (;;) {
    const std::string_view next = list.substr(0, list.find('|'));
    if (next == word || next.size() == list.size()) return next == word;
    list.remove_prefix(next.size() + 1);
  }
}

bool skip(std::string_view& text, std::string_view start) {
  if (!text.starts_with(start)) return false;
  text.remove_prefix(start.size());
  return true;
}

Slot read_slot(std::string_view text) {
  Slot slot;
  slot.hint = skip(text, "~");
  slot.optional = skip(text, "?") || slot.hint;
  slot.chooses = skip(text, "=");
  slot.words = split(text, '|');
  return slot;
}

OperandSlot read_operand(std::string_view text) {
  OperandSlot slot;
  if (skip(text, "#")) {
    slot.kind = OperandSlot::Kind::kConstant;
    slot.largest = text.empty() ? std::numeric_limits<std::int64_t>::max() : std::stoll(std::string(text));
    return slot;
  }
  if (skip(text, "d.")) slot.kind = OperandSlot::Kind::kDestination;
  slot.optional = skip(text, "?");
  const std::size_t type_end = std::min(text.find('|'), text.size());
  slot.with_predicate = type_end != text.size();
  slot.type = type_named(text.substr(0, type_end)).value_or(Type::kNone);
  return slot;
}

// The texts that come of one when sets stand for their names.
void expand_sets(const std::string& text, std::vector<std::string>& all) {
  const std::size_t at = text.find('$');
  if (at == std::string::npos) {
    all.push_back(text);
    return;
  }
  const std::size_t end = std::min(text.find_first_of(" |", at), text.size());
  for (const WordSet& set : kSets) {
    if (text.compare(at, end - at, set.name) == 0)
      expand_sets(fmt::format("{}{}{}", text.substr(0, at), set.words, text.substr(end)), all);
  }
}

// The variant if the words fit. The order of types is an operand's; that of all else is free.
std::optional<std::uint8_t> match(const Syntax& syntax, std::span<const std::string> words) {
  std::vector<std::string_view> left(words.begin() + 1, words.end());
  const auto is_type = [](std::string_view word) { return type_named(word).has_value(); };
  std::size_t variant = syntax.opcode->variant;
  for (const Slot& slot : syntax.slots) {
    const auto found = std::ranges::find_first_of(left, slot.words);
    if (found == left.end() || (is_type(*found) && std::any_of(left.begin(), found, is_type))) {
      if (!slot.optional) return std::nullopt;
      continue;
    }
    const auto chosen = std::ranges::find(slot.words, *found) - slot.words.begin();
    if (slot.chooses) variant += static_cast<std::size_t>(chosen) + (slot.optional ? 1U : 0U);
    left.erase(found);
  }
  if (!left.empty()) return std::nullopt;
  return static_cast<std::uint8_t>(variant);
}

}  // namespace

const Syntaxes& syntaxes() {
  static const Syntaxes all = [] {
    Syntaxes made;
    for (const Opcode& opcode : kOpcodes) {
      std::vector<std::string> texts;
      expand_sets(opcode.syntax, texts);
      for (const std::string& text : texts) {
        Syntax syntax{.opcode = &opcode, .slots = {}, .operands = {}};
        const std::vector<std::string> parts = split(text, ' ');
        std::transform(parts.begin() + 1, parts.end(), std::back_inserter(syntax.slots), read_slot);
        std::ranges::transform(split(opcode.operands, ' '), std::back_inserter(syntax.operands),
                               read_operand);
        for (const std::string& name : split(parts[0], '|')) made.emplace(name, syntax);
      }
    }
    return made;
  }();
  return all;
}

const std::map<std::string, Form, std::less<>>& forms() {
  static const FormTable table = [] {
    FormTable made;
    kernels().list_forms(made);
    return made;
  }();
  return table.all;
}

std::vector<std::string> split_opcode(std::string_view opcode) {
  return split(opcode, '.');
}

const Form* find_form(std::string_view name) {
  const auto found = forms().find(name);
  return found == forms().end() ? nullptr : &found->second;
}

FoundOpcode find_opcode(std::span<const std::string> words) {
  const auto [begin, end] = syntaxes().equal_range(words[0]);
  for (auto entry = begin; entry != end; ++entry) {
    const Syntax& syntax = entry->second;
    if (const auto variant = match(syntax, words)) return {syntax.opcode, syntax.operands, *variant};
  }
  FoundOpcode found;
  if (words.size() > 1) found.rounding = rounding_named(words[1]);
  std::string name = words[0];
  for (const std::string& word : words.subspan(found.rounding ? 2 : 1)) name += fmt::format(".{}", word);
  found.form = find_form(name);
  return found;
}

std::uint32_t first_target(std::span<const std::string> words) {
  std::uint32_t target = 0;
  for (const Since& since : kSince) {
    if (since.target <= target || !(since.names == "*" || lists(since.names, words[0]))) continue;
    const auto is_new = [&](const std::string& word) { return lists(since.words, word); };
    if (std::ranges::any_of(words, is_new)) target = since.target;
  }
  return target;
}

std::optional<Rounding> rounding_named(std::string_view name) {
  if (name == "rn") return Rounding::kNearest;
  if (name == "rz") return Rounding::kZero;
  if (name == "rm") return Rounding::kDown;
  if (name == "rp") return Rounding::kUp;
  return std::nullopt;
}

}  // namespace sluice::ptx
