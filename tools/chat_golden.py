#!/usr/bin/env python3
"""Reference data for the chat template: what Jinja2 makes of tests/golden-chat/chat_template.jinja.

    tools/chat_golden.py                      write tests/golden-chat/chats.jsonl
    tools/chat_golden.py --check              exit 1 if what is committed is not what would be written
    tools/chat_golden.py --out FILE [--template FILE] [--seed TEXT] [--count N]
                                              write another sample, also of another template; the tests read it too if
                                              SLUICE_CHAT_PEERS names it

The first line is a text that the renderings share, the words about tools; U+E000 stands for it in the others. Then, two lines
for each conversation: the JSON that a client would send, and the rendering, or null where the template refuses.
"""

import argparse
import json
import pathlib
import random
import sys

import jinja2
import jinja2.sandbox

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden-chat"
SHARED = "\ue000"

EDGES = ["", "", "", " ", "\n", "\n\n", "  \n", "\u00a0", "\u3000", "\u001f", "\u0085", "\u200b", "\t", "\u2028", "\r\n"]
TEXTS = ["What is 17 + 25?", "Gr\u00fc\u00dfe, \u4f60\u597d", "two\n\nlines", "42", "", "<|im_end|>", "x </think> y", "\U0001f600 ok",
         "<tool_response>\n3\n</tool_response>", "<tool_call>\n", 'a "quoted" \\ path', "{{ x }} {% y %}", "<think>"]
THOUGHTS = ["", "Let me see.", "one\ntwo\n", "<think>\nhm\n</think>", "a <think> b", "\u001c x \u2009", "\n\n", "</think>"]
NAMES = ["get_weather", "add", "search.web", "\u5929\u6c17", "a b", "x<y>"]
FLOATS = [0.0, -0.0, 1.0, 0.1, -2.5, 1e16, 1e15, 9999999999999998.0, 123456789012345680.0, 1e-4, 1e-5, 0.00012345, 1e100, 5e-324,
          1.7976931348623157e308, 2.2250738585072014e-308, 3.141592653589793, 1e22, 1e23, 6.02e23]
INTS = [0, 1, -1, 42, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, 10**30, -(10**25)]
STRINGS = ["", "Paris", "\u00e9\u4e2d\U0001f600", "line\nbreak", 'q"uote', "back\\slash", "tab\there", "\u0001\u001f\u007f", "\b\f\r", "</tool_call>",
           "\u2028", "<b>&'", " spaced ", "0"]


class Conversations:
    """Random conversations, as a client would send them and as the template gets them."""

    def __init__(self, rng):
        self.rng = rng

    def text(self):
        return self.rng.choice(EDGES) + self.rng.choice(TEXTS) + self.rng.choice(EDGES)

    def scalar(self):
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice([None, True, False])
        if kind == 1:
            return rng.choice(INTS) if rng.random() < 0.5 else rng.randrange(-(10 ** rng.randint(1, 22)), 10 ** rng.randint(1, 22))
        if kind == 2:
            if rng.random() < 0.5:
                return rng.choice(FLOATS)
            return float(f"{rng.uniform(-10, 10):.{rng.randint(0, 17)}f}e{rng.randint(-20, 20)}")
        return rng.choice(STRINGS)

    def value(self, depth=0):
        rng = self.rng
        kind = rng.random()
        if depth < 3 and kind < 0.15:
            return [self.value(depth + 1) for _ in range(rng.randint(0, 3))]
        if depth < 3 and kind < 0.3:
            return self.mapping(depth + 1)
        return self.scalar()

    def mapping(self, depth=0):
        keys = ["b", "a", "city", "zz", "\u00fc", "with space", "1", "", "<k>", 'q"']
        return {key: self.value(depth) for key in self.rng.sample(keys, self.rng.randint(0, 3))}

    def tool(self):
        rng = self.rng
        function = {"name": rng.choice(NAMES)}
        if rng.random() < 0.6:
            function["description"] = rng.choice(["Adds.", "Wetter f\u00fcr \u00abStadt\u00bb", "two\nlines", '"q" \\'])
        if rng.random() < 0.6:
            properties = {rng.choice(["city", "b", "a"]): {"type": "string"}, "n": {"type": "integer", "default": self.scalar()}}
            function["parameters"] = {"type": "object", "properties": properties, "required": ["n"]}
        if rng.random() < 0.3:
            function["strict"] = self.value()
        return {"type": "function", "function": function} if rng.random() < 0.8 else function

    def content(self):
        """As a client sends it: a string, null or parts."""
        kind = self.rng.random()
        if kind < 0.8:
            return self.text()
        if kind < 0.85:
            return None
        return [self.part() for _ in range(self.rng.randint(0, 3))]

    def part(self):
        return {"type": "text", "text": self.text()} if self.rng.random() < 0.9 else {"text": self.text()}

    def assistant(self):
        rng = self.rng
        message = {"role": "assistant", "content": self.content()}
        if isinstance(message["content"], str) and rng.random() < 0.5:
            opening = rng.choice(["<think>\n", "<think>", "", "\n<think>\n\n"])
            closing = rng.choice(["\n</think>\n\n", "</think>", "\n</think>\n \n", "</think></think>\n"])
            message["content"] = opening + rng.choice(THOUGHTS) + closing + message["content"]
        if rng.random() < 0.3:
            message["reasoning_content"] = rng.choice([None, rng.choice(EDGES) + rng.choice(THOUGHTS)])
        if rng.random() < 0.4:
            message["tool_calls"] = [self.call() for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
        return message

    def call(self):
        function = {"name": self.rng.choice(NAMES), "arguments": self.mapping()}
        if self.rng.random() < 0.1:
            return function
        return {"id": "call_1", "type": "function", "function": function}

    def draw(self):
        rng = self.rng
        messages = [{"role": "system", "content": self.content()}] if rng.random() < 0.5 else []
        if rng.random() < 0.9:
            messages.append({"role": "user", "content": self.content()})
        for _ in range(rng.randint(0, 5)):
            kind = rng.random()
            if kind < 0.35:
                messages.append({"role": "user", "content": self.content()})
            elif kind < 0.7 or not messages:  # a tool's result is never the first: we refuse that, templates don't
                messages.append(self.assistant())
            elif kind < 0.98:
                for _ in range(rng.randint(1, 3)):
                    messages.append({"role": "tool", "tool_call_id": "call_1", "content": self.content()})
            else:
                messages.append({"role": "system", "content": self.content()})
        chat = {"messages": messages}
        if rng.random() < 0.4:
            chat["tools"] = [self.tool() for _ in range(rng.choice([0, 1, 1, 2]))]
        chat["chat_template_kwargs"] = {"enable_thinking": rng.random() < 0.5}
        return chat


def as_sent(rng, chat):
    """The same conversation in another of the forms that OpenAI's clients use: arguments as JSON in a string, "developer" for
    "system"."""
    sent = json.loads(json.dumps(chat))
    for message in sent["messages"]:
        if message["role"] == "system" and rng.random() < 0.3:
            message["role"] = "developer"
        for call in message.get("tool_calls", []):
            function = call.get("function", call)
            if rng.random() < 0.7:
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=rng.random() < 0.5)
    return sent


def compile_template(text):
    """As transformers compiles a chat template."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(text)


def render(template, chat):
    try:
        return template.render(messages=chat["messages"], tools=chat.get("tools"), add_generation_prompt=True,
                               **chat["chat_template_kwargs"])
    except jinja2.TemplateError:
        return None


def shared_text(template):
    """The words between the last tool's definition and the system message."""
    text = render(template, {"messages": [{"role": "user", "content": ""}], "tools": [{}], "chat_template_kwargs": {}})
    return text[text.index("\n</tools>") : text.index("</IMPORTANT>")]


def sample(template, seed, count):
    rng = random.Random(seed)
    conversations = Conversations(rng)
    shared = shared_text(template)
    yield json.dumps(shared)
    for _ in range(count):
        chat = conversations.draw()
        yield json.dumps(as_sent(rng, chat), ensure_ascii=rng.random() < 0.3, separators=(",", ":"))
        text = render(template, chat)
        yield json.dumps(text if text is None else text.replace(shared, SHARED), ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "chats.jsonl", metavar="FILE")
    parser.add_argument("--template", type=pathlib.Path, default=FOLDER / "chat_template.jinja", metavar="FILE")
    parser.add_argument("--seed", default="chat")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    template = compile_template(options.template.read_text(encoding="utf-8"))
    text = "\n".join(sample(template, options.seed, options.count)) + "\n"
    if not options.check:
        options.out.write_text(text, encoding="utf-8")
    elif options.out.read_text(encoding="utf-8") != text:
        sys.exit(f"not what tools/chat_golden.py makes: {options.out}")


if __name__ == "__main__":
    main()
