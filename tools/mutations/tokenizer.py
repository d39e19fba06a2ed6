"""Mistakes in turning text and conversations into tokens."""

from mutations import Mutation

BPE = "model/bpe.cpp"
SPLIT = "model/pretokenizer.cpp"
NFC = "model/nfc.cpp"
TOKENIZER = "model/tokenizer.cpp"
ADDED = "model/added_tokens.cpp"
BYTES = "model/byte_level.cpp"
TEMPLATE = "model/chat_template.cpp"

TEXT = [
    Mutation("merges_by_position", "the leftmost pair merged, not the one of least rank", BPE,
             "if (ranks[i] < ranks[best]) best = i;", "if (ranks[best] == kNoRank && ranks[i] != kNoRank) best = i;"),
    Mutation("merges_by_highest_rank", "the rarest pair first", BPE, "if (ranks[i] < ranks[best]) best = i;",
             "if (ranks[i] != kNoRank && (ranks[best] == kNoRank || ranks[i] > ranks[best])) best = i;"),
    Mutation("equal_merges_from_the_right", "of equal pairs the last merged first", BPE, "if (ranks[i] < ranks[best])",
             "if (ranks[i] <= ranks[best])"),
    Mutation("stale_merges_kept", "long words: a pair that is gone merged all the same", BPE,
             "rank_at(at) != candidate >> 32U;", "rank_at(at) == kNoRank;"),
    Mutation("left_neighbour_not_looked_at", "a merge's new pair with its left neighbour missed", BPE,
             "if (best > 0) ranks[best - 1] =", "if (false) ranks[best - 1] ="),
    Mutation("nfc_off", "text not normalised", TOKENIZER, "if (definition.nfc && nfc_may_change(part))", "if (false)"),
    Mutation("nfc_always", "normalised whether the file asks for it or not", TOKENIZER,
             "if (definition.nfc && nfc_may_change(part))", "if (nfc_may_change(part))"),
    Mutation("nfc_blocked_marks_join", "marks of the same class join a starter past each other", NFC,
             "elements[kept - 1].combining_class < element.combining_class",
             "elements[kept - 1].combining_class <= element.combining_class"),
    Mutation("nfc_marks_unsorted", "marks not put in the order of their classes", NFC, "    order_marks(elements);",
             "    ;"),
    Mutation("nfc_hangul_without_trailing", "a third letter of a syllable left outside", NFC, "second > kTrailing &&",
             "second > kTrailing + 1 &&"),
    Mutation(
        "digits_grouped", "runs of digits kept together", SPLIT,
        "if ((first.classes & unicode::kNumber) != 0) return first.end;",
        "if ((first.classes & unicode::kNumber) != 0) return run_end(first.end, unicode::kNumber, unicode::kNumber);"),
    Mutation(
        "digits_by_three", "digits in groups of three, as in other models", SPLIT,
        "if ((first.classes & unicode::kNumber) != 0) return first.end;",
        "if ((first.classes & unicode::kNumber) != 0) { std::size_t end = first.end; for (int i = 0; i < 2 && end <"
        " text_.size() && (point(end).classes & unicode::kNumber) != 0; ++i) end = point(end).end; return end; }"),
    Mutation("marks_not_in_words", "Qwen2's expression: no combining marks in words", SPLIT,
             "unicode::kLetter | unicode::kMark :", "unicode::kLetter :"),
    Mutation("long_s_no_contraction", "U+017F forgotten", SPLIT, "if (first.value == 0x17F) return first.end;", ""),
    Mutation("contractions_in_lower_case_only", "(?i) forgotten", SPLIT,
             "value >= 'A' && value <= 'Z' ? value + ('a' - 'A') : value", "value"),
    Mutation("last_space_not_left", "white space before a word kept whole", SPLIT,
             "return end == text_.size() || last == at ? end : last;", "return end;"),
    Mutation("newlines_not_with_punctuation", "newlines behind punctuation left out", SPLIT,
             "while (at < text_.size() && is_newline(static_cast<unsigned char>(text_[at]))) ++at;\n    return at;",
             "return at;"),
    Mutation("byte_alphabet_shifted", "byte 0xAD taken for printable", BYTES, "byte <= 0xAC) || (byte >= 0xAE",
             "byte <= 0xAD) || (byte >= 0xAE"),
]

ADDED_TOKENS = [
    Mutation("added_tokens_not_atomic", "special tokens encoded letter by letter", TOKENIZER,
             "while (const auto match = matcher.find(text, from)) {",
             "while (const auto match = matcher.find(text, parse_special ? text.size() : from)) {"),
    Mutation("special_tokens_always_parsed", "a user's text can hold <|im_end|>", TOKENIZER,
             "if (match->token->special && !parse_special) continue;", ""),
    Mutation("plain_added_tokens_not_parsed", "<think> parsed with the special ones only", TOKENIZER,
             "if (match->token->special && !parse_special) continue;", "if (!parse_special) continue;"),
    Mutation("shortest_added_token", "of two added tokens the shorter matched", ADDED,
             "return token == kNone ? nullptr : &tokens_[token];",
             "while (token != kNone && prefixes_[token].parent != kNone) token = prefixes_[token].parent;"
             " return token == kNone ? nullptr : &tokens_[token];"),
    Mutation("all_added_tokens_hidden", "<think> left out with the special ones", TOKENIZER,
             "if (!skip_special || !found->special) out", "if (!skip_special) out"),
    Mutation("special_tokens_shown", "special tokens not left out", TOKENIZER,
             "if (!skip_special || !found->special) out", "out"),
    Mutation("seen_pieces_by_length", "a word taken for another of its length", TOKENIZER,
             "text_.substr(slot.begin, slot.size) == piece", "slot.size == piece.size()"),
]

CHAT = [
    Mutation("old_thoughts_kept", "thoughts before the last query shown", TEMPLATE,
             "append_assistant(messages[i], i > query, out);", "append_assistant(messages[i], true, out);"),
    Mutation("new_thoughts_lost", "thoughts behind the last query left out", TEMPLATE,
             "append_assistant(messages[i], i > query, out);", "append_assistant(messages[i], false, out);"),
    Mutation("query_itself_counts", "the last query is one too early", TEMPLATE,
             "if (is_query(messages[i - 1])) return i - 1;", "if (is_query(messages[i - 1]) && i > 1) return i - 2;"),
    Mutation("tool_result_is_a_query", "a user turn with a tool's result taken for a query", TEMPLATE,
             "return message.role == Role::kUser &&\n", "return message.role == Role::kUser || false &&\n"),
    Mutation("thought_starts_at_the_first_mark", "of two <think> the first counts", TEMPLATE, "thought.rfind(kThink)",
             "thought.find(kThink)"),
    Mutation("answer_starts_at_the_first_mark", "of two </think> the first counts", TEMPLATE,
             "content.rfind(kEndThink)", "content.find(kEndThink)"),
    Mutation("content_not_trimmed", "white space around a user's content kept", TEMPLATE,
             '.append(trim(messages[i].content)).append("<|im_end|>\\n");',
             '.append(messages[i].content).append("<|im_end|>\\n");'),
    Mutation("trim_ascii_only", "only blanks and newlines trimmed", TEMPLATE, "(c >= 0x1C && c <= 0x20)", "c == 0x20"),
    Mutation("generation_prompt_thinks_when_off", "an open <think> without thinking", TEMPLATE,
             'if (thinking == Thinking::kOff) out += "\\n</think>\\n\\n";', ""),
    Mutation("generation_prompt_one_newline", "one newline behind </think>", TEMPLATE, 'out += "\\n</think>\\n\\n";',
             'out += "\\n</think>\\n";'),
    Mutation("default_system_prompt", "a system turn that nobody asked for", TEMPLATE,
             "if (tools.empty() && !given) return;", ""),
    Mutation("end_of_turn_without_newline", "no newline behind <|im_end|>", TEMPLATE,
             'out.append(content).append("<|im_end|>\\n");', 'out.append(content).append("<|im_end|>");'),
    Mutation("tool_results_apart", "a user turn for every tool result", TEMPLATE,
             'if (messages[at - 1].role != Role::kTool) out +=', "out +="),
    Mutation("tool_calls_without_break", "a call not set apart from the answer", TEMPLATE,
             'trim(turn.answer).empty() ? "" : "\\n\\n"', 'trim(turn.answer).empty() ? "" : "\\n"'),
    Mutation("tool_arguments_as_json", "true for True", "model/chat_messages.cpp", 'return "True";', 'return "true";'),
    Mutation("tool_behind_the_system_text", "tools described behind the system message", TEMPLATE,
             "  if (!tools.empty()) {\n    out += kToolsBegin;",
             "  if (!tools.empty()) {\n    out += content;\n    out += kToolsBegin;"),
]

MUTATIONS = [*TEXT, *ADDED_TOKENS, *CHAT]
