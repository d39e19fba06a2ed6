#!/usr/bin/env python3
"""Compares our chat template with Qwen3.5's own, which is not part of this project: each renders thousands of random
conversations with Jinja2, and every rendering must be the same.

    tools/peers/chat_template.py --llama-cpp DIR [--count N] [--seed TEXT] [--tests BUILD/tests/test_model]
    tools/peers/chat_template.py --template FILE [...]

DIR is a source tree of llama.cpp, which has models/templates/Qwen3.5-*.jinja; FILE is a chat_template.jinja of a checkpoint.
The variants that are known to be in use (the small models' default, Unsloth's loop over a call's arguments, Qwen3.6's
keyword) are derived from it and compared too. With --tests, the native renderer is compared with each of them as well, and
must recognise it (model/template_kind.h).
"""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import chat_golden  # noqa: E402

UNLESS_TOLD = ("enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- else %}\n"
               "        {{- '<think>\\n' }}\n")
IF_ASKED = ("enable_thinking is true %}\n        {{- '<think>\\n' }}\n    {%- else %}\n"
            "        {{- '<think>\\n\\n</think>\\n\\n' }}\n")
ITEMS = ("{%- if tool_call.arguments is defined %}\n"
         "                    {%- for args_name, args_value in tool_call.arguments|items %}\n")
KEYS = ("{%- if tool_call.arguments is mapping %}\n"
        "                    {%- for args_name in tool_call.arguments %}\n"
        "                        {%- set args_value = tool_call.arguments[args_name] %}\n")
LAST = "{%- if loop.index0 > ns.last_query_index %}"
PRESERVE = "{%- if (preserve_thinking is defined and preserve_thinking is true) or (loop.index0 > ns.last_query_index) %}"


def swap(text, one, other):
    """The text with the one of the two that it has replaced by the other; None if it has neither."""
    for old, new in ((one, other), (other, one)):
        if text.count(old) == 1:
            return text.replace(old, new)
    return None


def variants(text):
    """The template itself and what follows from it, by name."""
    found = {"itself": text}
    for name, one, other in (("other default", UNLESS_TOLD, IF_ASKED), ("other loop over arguments", ITEMS, KEYS),
                             ("preserve_thinking", LAST, PRESERVE)):
        for known, body in list(found.items()):
            swapped = swap(body, one, other)
            if swapped is None:
                print(f"  {known}: no {name}")
            else:
                found[name if known == "itself" else f"{known}, {name}"] = swapped
    return found


def difference(template, ours, chats):
    for chat in chats:
        theirs, expected = chat_golden.render(template, chat), chat_golden.render(ours, chat)
        if theirs != expected:
            return f"{chat}\n  theirs: {theirs!r}\n  ours:   {expected!r}"
    return None


def check_native(tests, path, options):
    """Runs the native renderer's tests on a sample that this template rendered."""
    sample = path.with_suffix(".jsonl")
    template = chat_golden.compile_template(path.read_text(encoding="utf-8"))
    sample.write_text("\n".join(chat_golden.sample(template, options.seed, options.count)) + "\n", encoding="utf-8")
    environment = {**os.environ, "SLUICE_CHAT_PEERS": str(sample), "SLUICE_CHAT_TEMPLATE": str(path)}
    run = subprocess.run([tests, "--gtest_filter=*Chat*Peer*:TemplateKind.*Peer*"], env=environment, capture_output=True,
                         text=True, check=False)
    if "PASSED  ] 2 tests" not in run.stdout:
        return run.stdout[-3000:]
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--template", type=pathlib.Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--tests", type=pathlib.Path, metavar="PROGRAM")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", default="peers")
    options = parser.parse_args()
    paths = options.template
    if options.llama_cpp:
        paths = paths + sorted((options.llama_cpp / "models" / "templates").glob("Qwen3.5-*.jinja"))
    if not paths:
        sys.exit("no template: give --llama-cpp DIR or --template FILE")

    ours = chat_golden.compile_template((chat_golden.FOLDER / "chat_template.jinja").read_text(encoding="utf-8"))
    conversations = chat_golden.Conversations(random.Random(options.seed))
    chats = [conversations.draw() for _ in range(options.count)]
    refused = sum(chat_golden.render(ours, chat) is None for chat in chats)
    print(f"{len(chats)} conversations, {refused} of them refused")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            print(path)
            for number, (name, text) in enumerate(variants(path.read_text(encoding="utf-8")).items()):
                problem = difference(chat_golden.compile_template(text), ours, chats)
                if problem is None and options.tests:
                    made = pathlib.Path(folder) / f"{number}.jinja"
                    made.write_text(text, encoding="utf-8")
                    problem = check_native(options.tests, made, options)
                print(f"  {name}: {'the same' if problem is None else problem}")
                failed = failed or problem is not None
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
