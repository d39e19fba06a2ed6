"""The reference: Hugging Face transformers on a checkpoint folder, eager attention, on the CPU."""

import contextlib
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.qwen3_5 import modeling_qwen3_5

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    nested = json.loads((folder / "config.json").read_text())["model_type"] == "qwen3_5"
    loader = transformers.Qwen3_5ForConditionalGeneration if nested else transformers.AutoModelForCausalLM
    torch.manual_seed(0)  # of the vision tensors that a nested checkpoint lacks; text never meets them
    return loader.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


@torch.no_grad()
def logits(model: torch.nn.Module, tokens: list[int], pieces: list[int] | None = None) -> np.ndarray:
    """Logits [T, vocab]; with `pieces`, fed through the cache in pieces of these lengths."""
    ids = torch.tensor([tokens])
    if pieces is None:
        return model(input_ids=ids, use_cache=False).logits[0].double().numpy()
    assert sum(pieces) == len(tokens)
    cache = transformers.DynamicCache(config=model.config.get_text_config())
    rows = [model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0]
            for piece in ids.split(pieces, dim=1)]
    return torch.cat(rows).double().numpy()


class _Fp64Torch:
    """The torch module as seen by transformers' file, with fp64 where that file insists on fp32."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def everything_in_fp64():
    """transformers casts to fp32 inside norms, RoPE, softmax and delta rule whatever the model's type is; here these
    casts give fp64. Models must be made and run inside."""
    to_float, softmax = torch.Tensor.float, torch.nn.functional.softmax

    def softmax_fp64(x, dim, dtype=None):
        return softmax(x, dim=dim, dtype=torch.float64)

    modeling_qwen3_5.torch = _Fp64Torch()
    torch.Tensor.float = torch.Tensor.double
    torch.nn.functional.softmax = softmax_fp64
    try:
        yield
    finally:
        modeling_qwen3_5.torch = torch
        torch.Tensor.float = to_float
        torch.nn.functional.softmax = softmax


def relative_rms(got: np.ndarray, want: np.ndarray) -> float:
    """‖got − want‖ ÷ ‖want‖ over all elements."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.sqrt(np.sum((got - want) ** 2) / np.sum(want**2)))


def error_in(dtype: torch.dtype, folder: Path, prompts: list[list[int]], want: list[np.ndarray]) -> float:
    """Of a run in `dtype` over all rows of the prompts, each at once."""
    model = load(folder, dtype)
    return relative_rms(np.concatenate([logits(model, tokens) for tokens in prompts]), np.concatenate(want))
