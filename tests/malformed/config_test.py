"""Malformed config.json and generation_config.json."""

import unittest

from formats import safetensors_bytes, tiny_config, tiny_tensors
from harness import byte_tokenizer
from json_cases import broken_documents, cut_documents, doubled_keys, text, without_marks
from judge import INSPECT, LOGITS, RUN, Case, MalformedTest

CONFIG = tiny_config()
WEIGHTS = {"model.safetensors": safetensors_bytes(tiny_tensors(CONFIG))}
TOKENIZER = {"tokenizer.json": text(byte_tokenizer())}
GENERATION = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1,
              "eos_token_id": [256, 257]}

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "head_dim", "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
         "linear_value_head_dim", "linear_conv_kernel_dim")
# Everything that is no size, null among them.
NO_SIZES = (None, 0, -1, 1.5, 8.0, "8", "", True, [], [8], {}, 2**24 + 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 10**40, 1e308,
            -(2**63))
WRONG = {
    "model_type": (5, "llama", "", [], {}, True, "qwen3_5_text\0", "QWEN3_5"),
    "max_position_embeddings": (0, -1, 1.5, "x", [], {}, True, 2**31 + 1, 2**64),
    "rms_norm_eps": (0, -1e-6, "x", [], {}, True, 2, 1e300, 1e-300),
    "mtp_num_hidden_layers": (-1, 65, 1.5, "1", [], True, 2**64),
    "layer_types": ("x", 5, {}, [], ["linear_attention"], ["linear_attention"] * 3, ["linear_attention", "attention"],
                    ["linear_attention", 5], ["linear_attention", None], [["linear_attention"], "full_attention"],
                    ["full_attention", "linear_attention"], ["full_attention"] * 2, ["linear_attention"] * 2),
    "tie_word_embeddings": ("x", 1, 0, [], {}),
    "attn_output_gate": (False, "true", 1, []),
    "attention_bias": (True, "x", 1),
    "hidden_act": ("gelu", "", 5, [], True),
    "num_experts": (4, "x", [1]),
    "quantization_config": ({"bits": 4}, [1], "x", 5),
    "eos_token_id": (-1, 272, 2**31, 2**64, 1.5, "x", {}, True, [272], [256, -1], [[256]], ["x"], [None]),
    "rope_parameters": (5, "x", [], True, {"rope_type": "yarn"}, {"rope_type": 5},
                        {"rope_theta": 0}, {"rope_theta": -1}, {"rope_theta": "x"}, {"rope_theta": 1e31}, {"rope_theta": []},
                        {"rope_theta": 0.5}, {"partial_rotary_factor": 0}, {"partial_rotary_factor": -1},
                        {"partial_rotary_factor": 2}, {"partial_rotary_factor": 0.1}, {"partial_rotary_factor": "x"},
                        {"partial_rotary_factor": 0.4}, {"full_attention": {}}, {"rope_theta": True}),
    "rope_scaling": (5, "x", {"type": "yarn"}, {"rope_type": "linear", "factor": 2}, {"rope_theta": -1}),
    "dtype": (5, [], {}, True),
}
WRONG_GENERATION = {
    "temperature": (-1, 1e10, "x", [], {}, True),
    "top_k": (-1, 1.5, "x", [], True, 2**32, 2**64),
    "top_p": (-0.1, 1.1, "x", [], True),
    "min_p": (-0.1, 1.1, "x", [], True),
    "repetition_penalty": (0, -1, "x", 1e10, [], True),
    "do_sample": (1, "x", [], 0.5),
    "eos_token_id": (-1, 272, 2**31, 2**64, 1.5, "x", True, [[1]], ["x"], [256, 272], [None]),
}


def case(name, config, command=INSPECT, mentions=("config.json",)):
    data = config if isinstance(config, bytes) else text(config)
    return Case("config: " + name, WEIGHTS | TOKENIZER | {"config.json": data}, command, mentions)


def generation(name, document, mentions=("generation_config.json",), command=RUN):
    data = document if isinstance(document, bytes) else text(document)
    return Case("generation_config: " + name,
                WEIGHTS | TOKENIZER | {"config.json": text(CONFIG), "generation_config.json": data}, command, mentions)


def nested(config):
    return {"model_type": "qwen3_5", "text_config": config, "tie_word_embeddings": False}


def sizes(rng):
    for field in SIZES:
        if field != "linear_conv_kernel_dim":  # whose default is what the weights have
            yield case(f"without {field}", {key: value for key, value in CONFIG.items() if key != field})
        for wrong in NO_SIZES:
            yield case(f"{field} {wrong!r}", CONFIG | {field: wrong}, rng.choice((INSPECT, LOGITS)))
        # A size that no tensor has; the message may be about a tensor, then.
        for other in (CONFIG[field] + 1, CONFIG[field] * 2, 2**24):
            if field == "num_key_value_heads" or other == CONFIG[field]:
                continue
            yield case(f"{field} {other}", CONFIG | {field: other}, mentions=("config.json", field, "the metadata wants"))


def fields():
    for field, values in WRONG.items():
        for wrong in values:
            names = ("config.json", field, "model.layers.")  # a tensor that another layer list would have
            inside = field == "rope_parameters" and isinstance(wrong, dict)
            changed = CONFIG | {field: CONFIG[field] | wrong if inside else wrong}
            yield case(f"{field} {wrong!r}", changed, mentions=names)
    for wrong in (None, 5, [], "x", {}):
        yield case(f"text_config {wrong!r}", nested(wrong))
    yield case("no model_type", {key: value for key, value in CONFIG.items() if key != "model_type"})
    yield case("no text_config", {"model_type": "qwen3_5"})
    yield case("another text_config", nested(CONFIG | {"model_type": "llama"}))


class Config(MalformedTest):
    def test_sound_ones(self):
        self.accept([case("as made", CONFIG), case("for logits", CONFIG, LOGITS), case("nested", nested(CONFIG)),
                     case("to run", CONFIG, RUN), generation("sound", GENERATION),
                     generation("empty", {}), generation("nulls", dict.fromkeys(GENERATION))])

    def test_sizes(self):
        self.refuse(sizes(self.rng))

    def test_fields(self):
        self.refuse(fields())

    def test_documents(self):
        for make, document in ((case, CONFIG), (generation, GENERATION)):
            self.refuse(make(name, data) for documents in (
                broken_documents(document), doubled_keys(document), cut_documents(document, self.rng, 25),
                without_marks(document, self.rng, 25)) for name, data in documents)

    def test_generation(self):
        self.refuse(generation(f"{field} {wrong!r}", GENERATION | {field: wrong})
                    for field, values in WRONG_GENERATION.items() for wrong in values)


if __name__ == "__main__":
    unittest.main()
