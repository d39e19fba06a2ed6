#include "ptx/opcodes.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

namespace sluice::ptx {
namespace {

struct Slot {
  std::vector<std::string_view> words;  // one of them
  bool optional = false;
  bool hint = false;  // optional, and changes no value
};
using Pattern = std::vector<Slot>;

// One alternative from each part; `?`: or none; `~`: or none, and it is a hint.
#define SLUICE_INTEGERS "u16|u32|u64|s16|s32|s64"
#define SLUICE_ALL_INTEGERS "u8|s8|" SLUICE_INTEGERS
#define SLUICE_NUMBERS "b16|b32|b64|" SLUICE_INTEGERS "|f32|f64"
#define SLUICE_ORDERED "eq|ne|lt|le|gt|ge"
#define SLUICE_REAL_ORDER SLUICE_ORDERED "|equ|neu|ltu|leu|gtu|geu|num|nan"
#define SLUICE_WORDS "b32|u32|s32|f32|b16|u16|s16|b8|u8|s8"
#define SLUICE_LONG "b64|u64|s64|f64"
#define SLUICE_EVICTION                                                                   \
  "~L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate " \
  "~L2::cache_hint"
#define SLUICE_PREFETCH " ~L2::64B|L2::128B|L2::256B "
#define SLUICE_LOAD_HINTS "~ca|cg|cs|lu|cv " SLUICE_EVICTION SLUICE_PREFETCH
#define SLUICE_NC_HINTS "~ca|cg|cs " SLUICE_EVICTION SLUICE_PREFETCH
#define SLUICE_STORE_HINTS "~wb|cg|cs|wt " SLUICE_EVICTION " "
#define SLUICE_SCOPES "cta|cluster|gpu|sys"
#define SLUICE_SHARED "global|shared|shared::cta"
#define SLUICE_SPACES SLUICE_SHARED "|local|const|param|param::entry"

constexpr std::string_view kPatterns[] = {
    // Data movement and conversion
    "mov pred|" SLUICE_NUMBERS,  // NOLINT(bugprone-suspicious-missing-comma): the parts of one pattern
    "cvt " SLUICE_ALL_INTEGERS " " SLUICE_ALL_INTEGERS,
    "cvt sat u8|u16|u32|u64 s8|s16|s32|s64",  // .sat where the source has values that the destination lacks
    "cvt sat u8|s8|s16 u16|u32|u64",
    "cvt sat u16|s32 u32|u64",
    "cvt sat u32|s64 u64",
    "cvt sat s8 u8|s16|s32|s64",
    "cvt sat s16 s32|s64",
    "cvt sat s32 s64",
    "cvt rni|rzi|rmi|rpi ?ftz ?sat " SLUICE_ALL_INTEGERS " f32",
    "cvt rni|rzi|rmi|rpi ?sat " SLUICE_ALL_INTEGERS " f16|f64",
    "cvt rn|rz|rm|rp ?sat f32|f64 " SLUICE_ALL_INTEGERS,
    "cvt rn|rz|rm|rp ?sat f16 " SLUICE_ALL_INTEGERS,
    "cvt ?rni|rzi|rmi|rpi ?ftz ?sat f32 f32",
    "cvt ?rni|rzi|rmi|rpi ?sat f16 f16",
    "cvt ?rni|rzi|rmi|rpi ?sat f64 f64",
    "cvt ?ftz ?sat f32 f16",
    "cvt ?sat f64 f16",
    "cvt ?ftz ?sat f64 f32",
    "cvt f32 bf16",
    "cvt rn|rz|rm|rp ?ftz ?sat f32 f64",
    "cvt rn|rz|rm|rp ?ftz ?sat f16 f32",
    "cvt rn|rz|rm|rp ?sat f16 f64",
    "cvt rn|rz relu f16 f32",
    "cvt rn|rz ?relu bf16|f16x2|bf16x2 f32",
    "cvt rna tf32 f32",
    "cvta ?to " SLUICE_SPACES " u64",
    "isspacep " SLUICE_SPACES,
    "prmt b32 ?f4e|b4e|rc8|ecl|ecr|rc16",
    "ld ~weak ?" SLUICE_SPACES "|param::func " SLUICE_LOAD_HINTS "?v2|v4 " SLUICE_WORDS,
    "ld ~weak ?" SLUICE_SPACES "|param::func " SLUICE_LOAD_HINTS "?v2 " SLUICE_LONG,
    "ld volatile ?" SLUICE_SHARED " ?v2|v4 " SLUICE_WORDS,
    "ld volatile ?" SLUICE_SHARED " ?v2 " SLUICE_LONG,
    "ld relaxed|acquire " SLUICE_SCOPES " ?" SLUICE_SHARED " " SLUICE_EVICTION SLUICE_PREFETCH
    "?v2|v4 " SLUICE_WORDS,
    "ld relaxed|acquire " SLUICE_SCOPES " ?" SLUICE_SHARED " " SLUICE_EVICTION SLUICE_PREFETCH
    "?v2 " SLUICE_LONG,
    "ld global nc " SLUICE_NC_HINTS "?v2|v4 " SLUICE_WORDS,
    "ld global nc " SLUICE_NC_HINTS "?v2 " SLUICE_LONG,
    "ldu ?global ?v2|v4 " SLUICE_WORDS,
    "ldu ?global ?v2 " SLUICE_LONG,
    "st ~weak ?" SLUICE_SHARED "|local|param|param::func " SLUICE_STORE_HINTS "?v2|v4 " SLUICE_WORDS,
    "st ~weak ?" SLUICE_SHARED "|local|param|param::func " SLUICE_STORE_HINTS "?v2 " SLUICE_LONG,
    "st volatile ?" SLUICE_SHARED " ?v2|v4 " SLUICE_WORDS,
    "st volatile ?" SLUICE_SHARED " ?v2 " SLUICE_LONG,
    "st relaxed|release " SLUICE_SCOPES " ?" SLUICE_SHARED " " SLUICE_EVICTION " ?v2|v4 " SLUICE_WORDS,
    "st relaxed|release " SLUICE_SCOPES " ?" SLUICE_SHARED " " SLUICE_EVICTION " ?v2 " SLUICE_LONG,
    "prefetch ?global|local L1|L2",
    "prefetch global L2::evict_last|L2::evict_normal",
    "prefetchu L1",
    "cp async ca|cg shared|shared::cta global ~L2::64B|L2::128B|L2::256B",
    "cp async commit_group|wait_group|wait_all",
    // Comparison and selection
    "setp " SLUICE_ORDERED " ?and|or|xor " SLUICE_INTEGERS,
    "setp lo|ls|hi|hs ?and|or|xor u16|u32|u64",
    "setp eq|ne ?and|or|xor b16|b32|b64",
    "setp " SLUICE_REAL_ORDER " ?and|or|xor ?ftz f32|f16|f16x2",
    "setp " SLUICE_REAL_ORDER " ?and|or|xor f64|bf16|bf16x2",
    "set " SLUICE_ORDERED " ?and|or|xor u32|s32|f32|f16|bf16 " SLUICE_INTEGERS,
    "set lo|ls|hi|hs ?and|or|xor u32|s32|f32|f16|bf16 u16|u32|u64",
    "set eq|ne ?and|or|xor u32|s32|f32|f16|bf16 b16|b32|b64",
    "set " SLUICE_REAL_ORDER " ?and|or|xor ?ftz u32|s32|f32|f16 f32",
    "set " SLUICE_REAL_ORDER " ?and|or|xor bf16 f32",
    "set " SLUICE_REAL_ORDER " ?and|or|xor u32|s32|f32|f16|bf16 f64",
    "set " SLUICE_REAL_ORDER " ?and|or|xor ?ftz u16|s16|u32|s32|f16 f16",
    "set " SLUICE_REAL_ORDER " ?and|or|xor u16|s16|u32|s32|bf16 bf16",
    "set " SLUICE_REAL_ORDER " ?and|or|xor ?ftz u32|s32|f16x2 f16x2",
    "set " SLUICE_REAL_ORDER " ?and|or|xor u32|s32|bf16x2 bf16x2",
    "selp " SLUICE_NUMBERS,
    "slct " SLUICE_NUMBERS " s32",
    "slct ?ftz " SLUICE_NUMBERS " f32",
    // Logic, and arithmetic with carry
    "not pred",
    "lop3 b32",
    "add|sub cc u32|s32|u64|s64",
    "addc|subc ?cc u32|s32|u64|s64",
    "mad lo|hi cc u32|s32|u64|s64",
    "madc lo|hi ?cc u32|s32|u64|s64",
    // Matrices
    "mma sync aligned m16n8k8|m16n8k16 row col f32 f16 f16 f32",
    "mma sync aligned m16n8k8|m16n8k16 row col f16 f16 f16 f16",
    "mma sync aligned m16n8k8|m16n8k16 row col f32 bf16 bf16 f32",
    "mma sync aligned m16n8k4|m16n8k8 row col f32 tf32 tf32 f32",
    "mma sync aligned m8n8k4 row col f64 f64 f64 f64",
    "mma sync aligned m8n8k16|m16n8k16|m16n8k32 row col ?satfinite s32 s8|u8 s8|u8 s32",
    "ldmatrix sync aligned m8n8 x1|x2|x4 ?trans ?shared|shared::cta b16",
    "movmatrix sync aligned m8n8 trans b16",
    // Atomics and order
    "atom ?relaxed|acquire|release|acq_rel ?" SLUICE_SCOPES " ?" SLUICE_SHARED
    " add ~L2::cache_hint u32|s32|u64|f32|f64",
    "atom ?relaxed|acquire|release|acq_rel ?" SLUICE_SCOPES " ?" SLUICE_SHARED
    " add noftz ~L2::cache_hint f16|bf16|f16x2|bf16x2",
    "atom ?relaxed|acquire|release|acq_rel ?" SLUICE_SCOPES " ?" SLUICE_SHARED
    " min|max ~L2::cache_hint u32|s32|u64|s64",
    "atom ?relaxed|acquire|release|acq_rel ?" SLUICE_SCOPES " ?" SLUICE_SHARED
    " and|or|xor|exch ~L2::cache_hint b32|b64",
    "atom ?relaxed|acquire|release|acq_rel ?" SLUICE_SCOPES " ?" SLUICE_SHARED " inc|dec ~L2::cache_hint u32",
    "atom ?relaxed|acquire|release|acq_rel ?" SLUICE_SCOPES " ?" SLUICE_SHARED " cas b16|b32|b64",
    "red ?relaxed|release ?" SLUICE_SCOPES " ?" SLUICE_SHARED " add ~L2::cache_hint u32|s32|u64|f32|f64",
    "red ?relaxed|release ?" SLUICE_SCOPES " ?" SLUICE_SHARED
    " add noftz ~L2::cache_hint f16|bf16|f16x2|bf16x2",
    "red ?relaxed|release ?" SLUICE_SCOPES " ?" SLUICE_SHARED " min|max ~L2::cache_hint u32|s32|u64|s64",
    "red ?relaxed|release ?" SLUICE_SCOPES " ?" SLUICE_SHARED " and|or|xor ~L2::cache_hint b32|b64",
    "red ?relaxed|release ?" SLUICE_SCOPES " ?" SLUICE_SHARED " inc|dec ~L2::cache_hint u32",
    "membar cta|gl|sys",
    "fence ?acq_rel|sc cta|gpu|sys",
    // Of blocks and warps
    "bar ?cta sync|arrive",
    "bar ?cta red popc u32",
    "bar ?cta red and|or pred",
    "bar warp sync",
    "barrier ?cta sync|arrive ?aligned",
    "barrier ?cta red popc ?aligned u32",
    "barrier ?cta red and|or ?aligned pred",
    "shfl sync up|down|bfly|idx b32",
    "vote sync all|any|uni pred",
    "vote sync ballot b32",
    "match any|all sync b32|b64",
    "redux sync add|min|max u32|s32",
    "redux sync and|or|xor b32",
    "activemask b32",
    // Control flow
    "bra|call|ret ?uni",
    "brx idx ?uni",
    "exit",
    "trap",
    "nanosleep u32",
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

// Whether `word` is one of "a|b|c".
bool lists(std::string_view list, std::string_view word) {
  for (;;) {
    const std::string_view next = list.substr(0, list.find('|'));
    if (next == word) return true;
    if (next.size() == list.size()) return false;
    list.remove_prefix(next.size() + 1);
  }
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// By the first word. The order of types is an operand's; that of all else is free.
const std::multimap<std::string_view, Pattern>& patterns() {
  static const std::multimap<std::string_view, Pattern> all = [] {
    std::multimap<std::string_view, Pattern> made;
    for (const std::string_view text : kPatterns) {
      Pattern pattern;
      for (std::string_view part : split(text, ' ')) {
        const bool hint = part.starts_with('~');
        const bool optional = hint || part.starts_with('?');
        if (optional) part.remove_prefix(1);
        pattern.push_back({split(part, '|'), optional, hint});
      }
      const std::vector<std::string_view> names = pattern.front().words;
      pattern.erase(pattern.begin());
      for (const std::string_view name : names) made.emplace(name, pattern);
    }
    return made;
  }();
  return all;
}

bool matches(const Pattern& pattern, std::span<const std::string> words) {
  std::vector<std::string_view> left(words.begin() + 1, words.end());
  const auto is_type = [](std::string_view word) { return type_named(word).has_value(); };
  for (const Slot& slot : pattern) {
    const auto found = std::ranges::find_first_of(left, slot.words);
    const bool here = found != left.end() && !(is_type(*found) && std::any_of(left.begin(), found, is_type));
    if (here)
      left.erase(found);
    else if (!slot.optional)
      return false;
  }
  return left.empty();
}

void expand(const Pattern& pattern, std::size_t at, const std::string& begin, std::vector<std::string>& all) {
  if (at == pattern.size()) {
    all.push_back(begin);
    return;
  }
  const Slot& slot = pattern[at];
  if (slot.optional) expand(pattern, at + 1, begin, all);
  if (slot.hint) return;
  for (const std::string_view word : slot.words)
    expand(pattern, at + 1, fmt::format("{}.{}", begin, word), all);
}

// With one hint: the last word of every other slot beside it, where the slot must have one.
void expand_hints(const Pattern& pattern, const std::string& name, std::vector<std::string>& all) {
  for (const Slot& hints : pattern) {
    for (std::size_t i = 0; hints.hint && i < hints.words.size(); ++i) {
      std::string opcode = name;
      for (const Slot& slot : pattern) {
        if (&slot == &hints)
          opcode += fmt::format(".{}", slot.words[i]);
        else if (!slot.optional)
          opcode += fmt::format(".{}", slot.words[i % slot.words.size()]);
      }
      all.push_back(std::move(opcode));
    }
  }
}

// Names in the table of forms that are no opcodes but what the decoder makes some of.
bool is_part(std::string_view name) {
  constexpr std::string_view kParts[] = {"mov.", "cvt.", "setp.", "selp.", "slct.",      "prmt.",     "lop3.",
                                         "mma.", "low.", "high.", "join.", "add.carry.", "sub.carry."};
  return std::ranges::any_of(kParts, [&](std::string_view part) { return name.starts_with(part); });
}

}  // namespace

std::vector<std::string> split_opcode(std::string_view opcode) {
  std::vector<std::string> words;
  for (const std::string_view word : split(opcode, '.')) words.emplace_back(word);
  return words;
}

const FormTable& forms() {
  static const FormTable table = [] {
    FormTable made;
    kernels().list_forms(made);
    return made;
  }();
  return table;
}

bool is_opcode(std::span<const std::string> words) {
  const auto [begin, end] = patterns().equal_range(words[0]);
  if (std::any_of(begin, end, [&](const auto& entry) { return matches(entry.second, words); })) return true;
  std::string name;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i == 1 && rounding_named(words[i])) continue;
    name += fmt::format("{}{}", name.empty() ? "" : ".", words[i]);
  }
  return !is_part(name) && forms().find(name) != nullptr;
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

std::vector<std::string> opcodes() {
  std::vector<std::string> all;
  for (const auto& [word, pattern] : patterns()) {
    expand(pattern, 0, std::string(word), all);
    expand_hints(pattern, std::string(word), all);
  }
  for (const auto& [name, form] : forms().all()) {
    if (is_part(name)) continue;
    const std::size_t dot = name.find('.');
    const Type to = form.destination;
    const bool single = to == Type::kF32 || to == Type::kF64;
    if (form.rounds != Form::Rounds::kRequired) all.push_back(name);
    if (form.rounds == Form::Rounds::kNever) continue;
    for (const char* rounding : {"rn", "rz", "rm", "rp"}) {
      if (single || rounding[1] == 'n')
        all.push_back(fmt::format("{}.{}{}", name.substr(0, dot), rounding, name.substr(dot)));
    }
  }
  return all;
}

std::optional<Rounding> rounding_named(std::string_view name) {
  if (name == "rn") return Rounding::kNearest;
  if (name == "rz") return Rounding::kZero;
  if (name == "rm") return Rounding::kDown;
  if (name == "rp") return Rounding::kUp;
  return std::nullopt;
}

}  // namespace sluice::ptx
