"""ChatML: how a chat becomes text, as chat_template.jinja renders it.

Only the last answer carries its (here mostly empty) think block; the template drops it from
earlier turns. The parts come back with a flag, True where the model speaks.
"""

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"


def opening(thinking=False):
    """The generation prompt: what the model's words follow."""
    return "<|im_start|>assistant\n" + ("<think>\n" if thinking else EMPTY_THOUGHT)


def render(turns, system=None, thought=None):
    """turns [(user, answer)] -> [(text, spoken by the model)]. `thought` fills the last think block."""
    parts = [(f"<|im_start|>system\n{system}<|im_end|>\n", False)] if system else []
    for i, (user, answer) in enumerate(turns):
        last = i + 1 == len(turns)
        parts.append((f"<|im_start|>user\n{user}<|im_end|>\n", False))
        if last and thought:
            parts.append((opening(True), False))
            parts.append((f"{thought}\n</think>\n\n{answer}<|im_end|>", True))
        else:
            parts.append((opening() if last else "<|im_start|>assistant\n", False))
            parts.append((answer + "<|im_end|>", True))
        parts.append(("\n", False))
    return parts
