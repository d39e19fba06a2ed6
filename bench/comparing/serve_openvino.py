"""Decodes with OpenVINO for compare.py, which runs this with a Python that has openvino, and optimum-intel with a transformers
that knows Qwen3.5 (optimum-intel 2.2, transformers 5.2).

    serve_openvino.py MODEL EXPORTED

MODEL is exported by optimum-intel to the folder EXPORTED, once, with its weights as they are (BF16). Lines in, lines out as in
serve_transformers.py. Variants: the precision that OpenVINO is told to compute in, bf16 or f32. It runs the exported model by
itself, as optimum's and OpenVINO GenAI's own loops do: one stateful infer request, the logits of the last row only (the exported
model computes those of all rows; GenAI cuts it the same way), then an argmax.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino

PROMPT = 2  # tokens before the timed ones, as in `sluice bench`
WARM_UP = 4


def export(model: str, folder: Path) -> None:
    from optimum.intel import OVModelForCausalLM  # takes long

    made = OVModelForCausalLM.from_pretrained(model, export=True, load_in_8bit=False, compile=False)
    made.save_pretrained(folder)


def cut_to_last_row(model: openvino.Model) -> None:
    """Slices what goes into the head's product, so that one row of logits is computed."""
    node = model.output("logits").node
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).node
    number = openvino.opset13.constant
    last = openvino.opset13.slice(node.input_value(0), number(np.array([-1])), number(np.array([np.iinfo(np.int64).max])),
                                  number(np.array([1])), number(np.array([1])))
    node.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()


class Decoder:
    def __init__(self, folder: Path, precision: str, threads: int):
        core = openvino.Core()
        model = core.read_model(folder / "openvino_model.xml")
        cut_to_last_row(model)
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        self.request = core.compile_model(model, "CPU", options).create_infer_request()

    def step(self, tokens: np.ndarray, past: int) -> int:
        """Feeds a row of tokens behind `past` others; the likeliest next one."""
        n = tokens.shape[1]
        inputs = {"input_ids": tokens, "attention_mask": np.ones((1, past + n), np.int64),
                  "position_ids": np.arange(past, past + n, dtype=np.int64)[None], "beam_idx": np.zeros(1, np.int32)}
        self.request.infer(inputs, share_inputs=True)
        logits = self.request.get_tensor("logits").data
        assert logits.shape[1] == 1, logits.shape
        return int(logits[0, -1].argmax())

    def decode(self, tokens: int) -> float:
        self.request.reset_state()
        token = self.step(np.arange(1, 1 + PROMPT, dtype=np.int64)[None], 0)
        for step in range(WARM_UP + tokens):
            if step == WARM_UP:
                start = time.perf_counter()
            token = self.step(np.array([[token]], np.int64), PROMPT + step)
        return tokens / (time.perf_counter() - start)

    def prefill(self, tokens: int) -> float:
        rows = np.arange(tokens, dtype=np.int64)[None] % 256
        for _ in range(2):  # the first one warms up
            self.request.reset_state()
            start = time.perf_counter()
            self.step(rows, 0)
            seconds = time.perf_counter() - start
        return tokens / seconds


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # libraries write to 1 what they like
    os.dup2(2, 1)
    model, folder = sys.argv[1], Path(sys.argv[2])
    if not (folder / "openvino_model.xml").exists():
        export(model, folder)
    print(json.dumps({"OpenVINO": openvino.__version__.split("-")[0], "optimum-intel": version("optimum-intel"),
                      "transformers": version("transformers")}), file=answers)
    decoders = {}
    for line in sys.stdin:
        wish = json.loads(line)
        try:
            key = (wish["variant"], wish["threads"])
            if key not in decoders:
                decoders.clear()  # each has the weights once more
                decoders[key] = Decoder(folder, *key)
            decoder = decoders[key]
            answer = {"tok_s": decoder.prefill(wish["prompt"]) if wish["prompt"] else decoder.decode(wish["tokens"])}
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"}
        print(json.dumps(answer), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
