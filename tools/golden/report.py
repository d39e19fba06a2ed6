"""Is the reference consistent with itself, how far is each precision from fp64, and does every weight matter?"""

from pathlib import Path

import numpy as np
import torch

from golden import checkpoint, reference
from golden.cases import CASES, Case
from golden.reference import relative_rms

SPLIT_TOLERANCE = 1e-5  # whole, token by token and split: the same sums in another order
MATTERS = 1e-3  # relative rms change of the logits when a tensor is replaced; the tests tolerate 2e-5


def check_loaded(case: Case, model: torch.nn.Module) -> None:
    """transformers has understood the checkpoint as it is meant: every weight, the rotary share, the layers."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, values in checkpoint.stored_tensors(case).items():
        if not name.startswith(("mtp.", "model.visual.")):
            assert torch.equal(parameters[name], values.float()), f"{case.name}: {name} was not loaded"
    config = model.config.get_text_config()
    kinds = {"full_attention": "a", "linear_attention": "d"}
    assert "".join(kinds[kind] for kind in config.layer_types) == case.layers, f"{case.name}: layers"
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr() or not case.tied
    inv_freq = language_model(case, model).rotary_emb.inv_freq
    wanted = case.theta ** (-np.arange(0, case.rotary_dim, 2) / case.rotary_dim)
    assert inv_freq.shape == wanted.shape and np.allclose(inv_freq, wanted, rtol=1e-6), f"{case.name}: RoPE"
    assert config.rms_norm_eps == case.eps and config.linear_conv_kernel_dim == case.conv, case.name


def language_model(case: Case, model: torch.nn.Module) -> torch.nn.Module:
    return model.model.language_model if case.nested else model.model


def splits(case: Case, length: int) -> list[list[int]]:
    """Token by token, and three splits at places drawn from the case's stream."""
    found = [[1] * length]
    for index in range(3 if length > 1 else 0):
        bits = checkpoint.random_bits(case, f"split{length}.{index}", length - 1)
        share = np.uint64((2, 8, 32)[index])
        cuts = [0, *(i + 1 for i in range(length - 1) if bits[i] % share == 0), length]
        found.append([b - a for a, b in zip(cuts, cuts[1:])])
    return found


def split_error(case: Case, model: torch.nn.Module, want: list[np.ndarray]) -> float:
    return max(relative_rms(reference.logits(model, tokens, pieces), want[index])
               for index, tokens in enumerate(checkpoint.prompts(case)) for pieces in splits(case, len(tokens)))


def weakest_tensor(case: Case, model: torch.nn.Module) -> tuple[float, str]:
    """The tensor that changes the logits least when its values are rolled by one place and negated, and by how much."""
    tokens = max(checkpoint.prompts(case), key=lambda prompt: (len(prompt) <= 70, len(prompt)))
    want = reference.logits(model, tokens)
    found = []
    for name, values in model.named_parameters():
        if "visual" in name:
            continue
        kept = values.data.clone()
        values.data = -kept.flatten().roll(1).reshape(kept.shape)
        found.append((relative_rms(reference.logits(model, tokens), want), name))
        values.data = kept
    return min(found)


def behaviour(case: Case, model: torch.nn.Module) -> tuple[float, float, float]:
    """Smallest and largest decay exp(g), and the mean of the largest attention weight of rows past the eighth, on the
    longest prompt."""
    decays, peaks = [], []
    rule, attend = modeling().torch_chunk_gated_delta_rule, modeling().eager_attention_forward

    def seen_rule(*args, g, **kwargs):
        decays.append(g.exp().flatten())
        return rule(*args, g=g, **kwargs)

    def seen_attend(*args, **kwargs):
        output, weights = attend(*args, **kwargs)
        peaks.append(weights[..., 8:, :].amax(-1).flatten())
        return output, weights

    for layer in language_model(case, model).layers:
        if layer.layer_type == "linear_attention":
            layer.linear_attn.chunk_gated_delta_rule = seen_rule
    modeling().eager_attention_forward = seen_attend
    try:
        reference.logits(model, max(checkpoint.prompts(case), key=len))
    finally:
        modeling().eager_attention_forward = attend
        for layer in language_model(case, model).layers:
            if layer.layer_type == "linear_attention":
                layer.linear_attn.chunk_gated_delta_rule = rule
    seen = torch.cat(decays)
    return float(seen.min()), float(seen.max()), float(torch.cat(peaks).mean())


def modeling():
    return reference.modeling_qwen3_5


def print_report(golden: Path) -> int:
    """Prints a line per case; 1 if transformers disagrees with itself or a weight doesn't matter."""
    print(f"{'case':19}{'KiB':>5}{'rows':>5} {'rms':>6} {'split':>8} {'fp64':>8} {'bf16':>7} "
          f"{'decay':>15} {'peak':>5}  weakest tensor")
    bad = 0
    for case in CASES:
        folder = golden / case.name
        prompts = checkpoint.prompts(case)
        want = [np.load(folder / f"logits_{index}.npy") for index in range(len(prompts))]
        model = reference.load(folder)
        check_loaded(case, model)
        split = split_error(case, model, want)
        slowest, fastest, peak = behaviour(case, model)
        weakest, name = weakest_tensor(case, model)

        with reference.everything_in_fp64():
            fp64 = reference.error_in(torch.float64, folder, prompts, want)
        bf16 = reference.error_in(torch.bfloat16, folder, prompts, want)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1024
        scale = np.sqrt(np.mean(np.concatenate(want) ** 2))
        print(f"{case.name:19}{size:5.0f}{sum(map(len, prompts)):5} {scale:6.2f} {split:8.1e} {fp64:8.1e} {bf16:7.2%} "
              f"{slowest:7.4f}-{fastest:.5f} {peak:5.2f}  {weakest:.1e} {name.removeprefix(case.prefix)}", flush=True)
        bad += split > SPLIT_TOLERANCE or weakest < MATTERS
    print("split: whole prompt against token by token and split, worst; fp64, bf16: fp32 against these; "
          "peak: mean of the largest attention weight; weakest: change when that tensor is rolled by one place and negated")
    if bad:
        print(f"golden: {bad} cases with splits beyond {SPLIT_TOLERANCE:.0e} or a tensor below {MATTERS:.0e}")
    return 1 if bad else 0
