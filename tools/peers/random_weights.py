"""The numbers of a random Qwen3.5 checkpoint (tools/random_checkpoint.py), tensor by tensor, as both formats store them."""

import hashlib
import math
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

STORED = {"bf16": ("BF16", "bfloat16"), "f16": ("F16", "float16"), "f32": ("F32", "float32")}
# Where a block's fp16 scales lie, and the second one as a multiple of the first that centres the weights on zero.
SCALES = {Type.Q4_K: (0, 2, 7.5), Type.Q5_K: (0, 2, 15.5), Type.Q6_K: (208, None, 0), Type.IQ4_NL: (0, None, 0),
          Type.IQ4_XS: (0, None, 0)}
PIECE = 1 << 24  # elements in memory at once, where nothing is reordered


@dataclass(frozen=True)
class Shape:
    """Qwen3.5-0.8B's, where nothing else is said."""

    hidden: int = 1024
    intermediate: int = 3584
    vocab: int = 248320
    layers: int = 24
    interval: int = 4
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 256
    key_heads: int = 16
    value_heads: int = 16
    key_dim: int = 128
    value_dim: int = 128
    conv: int = 4
    rotary: float = 0.25  # partial_rotary_factor
    theta: float = 1e7
    eps: float = 1e-6
    tied: bool = True
    mtp: bool = False

    def attends(self, layer: int) -> bool:
        return (layer + 1) % self.interval == 0

    def wrong(self) -> str:
        """What makes this no shape of a model, for transformers, for llama.cpp or for sluice; "" if nothing does."""
        for name, value in vars(self).items():
            if name not in ("tied", "mtp") and not value > 0:
                return f"{name} must be above 0"
        if self.value_heads % self.key_heads or self.heads % self.kv_heads:
            return "value_heads must be a multiple of key_heads, and heads of kv_heads"
        rotary = int(self.head_dim * self.rotary)
        if rotary == 0 or rotary % 2 or self.rotary > 1:
            return "head_dim × rotary must be an even number from 2 to head_dim"
        if self.layers > 4096 or self.conv > 4096 or max(self.vocab, self.hidden, self.intermediate) > 1 << 24:
            return "layers and conv must be at most 4096, and vocab, hidden and intermediate at most 2^24"
        if max(self.heads * self.head_dim, self.key_heads * self.key_dim, self.value_heads * self.value_dim) > 1 << 24:
            return "heads of one kind must be at most 2^24 wide together"
        if not 1 <= self.theta <= 1e30 or not 1e-30 <= self.eps <= 1:
            return "theta must be from 1 to 1e30, and eps from 1e-30 to 1"
        return ""

    @property
    def mrope_section(self) -> list[int]:
        pairs = int(self.head_dim * self.rotary) // 2
        return [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3]


@dataclass(frozen=True)
class Tensor:
    name: str  # in safetensors
    gguf_name: str
    shape: tuple[int, ...]  # [out, in], as in safetensors
    std: float = 0.0
    mean: float = 0.0
    between: tuple[float, float] | None = None  # drawn evenly instead
    change: str = ""  # what GGUF does to it: "one" +1, "decay" -exp, "conv" squeeze
    heads: str = ""  # where its V heads lie: "rows", "columns", "qkv" rows after Q and K
    head_size: int = 1
    f32: bool = False  # in Qwen3.5's safetensors too

    @property
    def matrix(self) -> bool:
        return len(self.shape) == 2

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def norm(name: str, gguf_name: str, size: int, mean: float = 0.05, std: float = 0.15) -> Tensor:
    return Tensor(name, gguf_name, (size,), std, mean, change="one")


def mlp(s: Shape, hf: str, blk: str) -> list[Tensor]:
    return [
        Tensor(hf + "mlp.gate_proj.weight", blk + "ffn_gate.weight", (s.intermediate, s.hidden), 1.3 / math.sqrt(s.hidden)),
        Tensor(hf + "mlp.up_proj.weight", blk + "ffn_up.weight", (s.intermediate, s.hidden), 1 / math.sqrt(s.hidden)),
        Tensor(hf + "mlp.down_proj.weight", blk + "ffn_down.weight", (s.hidden, s.intermediate), 1.2 / math.sqrt(s.intermediate)),
    ]


def attention(s: Shape, hf: str, blk: str) -> list[Tensor]:
    hf, width, std = hf + "self_attn.", s.heads * s.head_dim, 1 / math.sqrt(s.hidden)
    return [
        Tensor(hf + "q_proj.weight", blk + "attn_q.weight", (2 * width, s.hidden), std),
        Tensor(hf + "k_proj.weight", blk + "attn_k.weight", (s.kv_heads * s.head_dim, s.hidden), std),
        Tensor(hf + "v_proj.weight", blk + "attn_v.weight", (s.kv_heads * s.head_dim, s.hidden), std),
        Tensor(hf + "o_proj.weight", blk + "attn_output.weight", (s.hidden, width), 1.5 / math.sqrt(width)),
        norm(hf + "q_norm.weight", blk + "attn_q_norm.weight", s.head_dim, 0.3),  # scores of a deviation near 1.7
        norm(hf + "k_norm.weight", blk + "attn_k_norm.weight", s.head_dim, 0.3),
    ]


def delta(s: Shape, hf: str, blk: str) -> list[Tensor]:
    hf, values = hf + "linear_attn.", s.value_heads * s.value_dim
    channels = 2 * s.key_heads * s.key_dim + values
    std = 1 / math.sqrt(s.hidden)
    rows, heads = dict(heads="rows", head_size=s.value_dim), dict(heads="rows")
    return [
        Tensor(hf + "in_proj_qkv.weight", blk + "attn_qkv.weight", (channels, s.hidden), std, heads="qkv", head_size=s.value_dim),
        Tensor(hf + "in_proj_z.weight", blk + "attn_gate.weight", (values, s.hidden), std, **rows),
        Tensor(hf + "in_proj_b.weight", blk + "ssm_beta.weight", (s.value_heads, s.hidden), std, **heads),
        Tensor(hf + "in_proj_a.weight", blk + "ssm_alpha.weight", (s.value_heads, s.hidden), 0.7 * std, **heads),
        Tensor(hf + "conv1d.weight", blk + "ssm_conv1d.weight", (channels, 1, s.conv), 0.6, change="conv", heads="qkv",
               head_size=s.value_dim),
        # At a = 0 a step's decay lies between exp(-1.1) and exp(-0.0009).
        Tensor(hf + "A_log", blk + "ssm_a", (s.value_heads,), between=(-4.0, 0.5), change="decay", f32=True, **heads),
        Tensor(hf + "dt_bias", blk + "ssm_dt.bias", (s.value_heads,), between=(-3.0, 0.0), **heads),
        Tensor(hf + "norm.weight", blk + "ssm_norm.weight", (s.value_dim,), 0.15, 1.0, f32=True),
        Tensor(hf + "out_proj.weight", blk + "ssm_out.weight", (s.hidden, values), 1.5 / math.sqrt(values), heads="columns",
               head_size=s.value_dim),
    ]


def layer(s: Shape, hf: str, blk: str, attends: bool) -> list[Tensor]:
    return [
        norm(hf + "input_layernorm.weight", blk + "attn_norm.weight", s.hidden),
        *(attention if attends else delta)(s, hf, blk),
        norm(hf + "post_attention_layernorm.weight", blk + "post_attention_norm.weight", s.hidden),
        *mlp(s, hf, blk),
    ]


def tensors(s: Shape, prefix: str) -> list[Tensor]:
    head = 2 / math.sqrt(s.hidden)  # logits of a deviation near 2
    found = [Tensor(prefix + "embed_tokens.weight", "token_embd.weight", (s.vocab, s.hidden), head if s.tied else 1.0)]
    for i in range(s.layers):
        found += layer(s, f"{prefix}layers.{i}.", f"blk.{i}.", s.attends(i))
    found.append(norm(prefix + "norm.weight", "output_norm.weight", s.hidden))
    if not s.tied:
        found.append(Tensor("lm_head.weight", "output.weight", (s.vocab, s.hidden), head))
    if s.mtp:
        blk = f"blk.{s.layers}."
        found += [
            Tensor("mtp.fc.weight", blk + "nextn.eh_proj.weight", (s.hidden, 2 * s.hidden), 1 / math.sqrt(2 * s.hidden)),
            norm("mtp.pre_fc_norm_embedding.weight", blk + "nextn.enorm.weight", s.hidden),
            norm("mtp.pre_fc_norm_hidden.weight", blk + "nextn.hnorm.weight", s.hidden),
            norm("mtp.norm.weight", blk + "nextn.shared_head_norm.weight", s.hidden),
            *layer(s, "mtp.layers.0.", blk, attends=True),
        ]
    return found


def to_bf16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def to_f32(x: np.ndarray) -> np.ndarray:
    """uint16 stands for bf16."""
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32) if x.dtype == np.uint16 else x.astype(np.float32)


class Checkpoint:
    """The numbers of every tensor in both formats, in pieces of whole rows, drawn anew whenever they are asked for."""

    def __init__(self, shape: Shape, seed: int, dtype: str, gguf_type: str, prefix: str):
        self.shape, self.seed, self.dtype = shape, seed, dtype
        self.gguf_type = Type[gguf_type]
        self.tensors = tensors(shape, prefix)

    def random(self, name: str) -> np.random.Generator:
        key = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

    def type_in_gguf(self, t: Tensor) -> Type:
        return self.gguf_type if t.matrix else Type.F32

    def not_in_blocks(self) -> Tensor | None:
        """A matrix whose rows are not whole blocks of the GGUF's type."""
        elements = gguf.GGML_QUANT_SIZES[self.gguf_type][0]
        return next((t for t in self.tensors if t.matrix and t.shape[1] % elements), None)

    def decided_by_gguf(self, t: Tensor) -> bool:
        return self.type_in_gguf(t) not in (Type.F32, Type[STORED[self.dtype][0]])

    def type_in_safetensors(self, t: Tensor) -> str:
        return "F32" if t.f32 or self.decided_by_gguf(t) else STORED[self.dtype][0]

    def pieces(self, t: Tensor):
        """Row counts."""
        step = t.shape[0] if t.heads or not t.matrix else max(1, PIECE // t.shape[1])
        return [min(step, t.shape[0] - first) for first in range(0, t.shape[0], step)]

    def drawn(self, t: Tensor):
        rng = self.random(t.name)
        for rows in self.pieces(t):
            shape = (rows, *t.shape[1:])
            if t.between:
                x = rng.uniform(*t.between, shape).astype(np.float32)
            else:
                x = rng.standard_normal(shape, np.float32)
                x *= np.float32(t.std)
                x += np.float32(t.mean)
            yield x if t.f32 or self.dtype == "f32" else to_bf16(x) if self.dtype == "bf16" else x.astype(np.float16)

    def order(self, t: Tensor) -> np.ndarray:
        """gguf[i] = safetensors[order[i]] along the rows or columns: V heads that share a K head stand LKH apart."""
        s = self.shape
        grouped = np.arange(s.value_heads * t.head_size).reshape(s.key_heads, -1, t.head_size)
        tiled = grouped.transpose(1, 0, 2).ravel()
        before = 2 * s.key_heads * s.key_dim if t.heads == "qkv" else 0
        return np.concatenate([np.arange(before), before + tiled])

    def reordered(self, t: Tensor, x: np.ndarray, order: np.ndarray) -> np.ndarray:
        return x[:, order] if t.heads == "columns" else x[order]

    def in_gguf(self, t: Tensor):
        kind = self.type_in_gguf(t)
        if kind in SCALES:
            yield from self.random_blocks(t, kind)
            return
        for piece in self.drawn(t):
            x = to_f32(piece)
            if t.heads:
                x = self.reordered(t, x, self.order(t))
            if t.change == "one":
                x = x + np.float32(1)
            elif t.change == "decay":
                x = -np.exp(x.astype(np.float64)).astype(np.float32)
            elif t.change == "conv":
                x = x.reshape(t.shape[0], -1)
            yield x if kind == Type.F32 else gguf.quants.quantize(x, kind)

    def random_blocks(self, t: Tensor, kind: Type):
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        first, second, ratio = SCALES[kind]
        rng = self.random(t.name + "/blocks")

        def blocks(rows: int, scale: float) -> np.ndarray:
            made = rng.integers(0, 256, (rows * t.shape[1] // elements, size), np.uint8)
            d = (scale * rng.uniform(0.5, 1.5, len(made))).astype(np.float16)
            made[:, first : first + 2] = d.view(np.uint8).reshape(-1, 2)
            if second is not None:
                made[:, second : second + 2] = (d * np.float16(ratio)).view(np.uint8).reshape(-1, 2)
            return made.reshape(rows, -1)

        unit = gguf.quants.dequantize(blocks(1 + 65536 // t.shape[1], 1.0), kind).std()
        for rows in self.pieces(t):
            yield blocks(rows, t.std / float(unit))

    def in_safetensors(self, t: Tensor):
        if not self.decided_by_gguf(t):
            yield from self.drawn(t)
            return
        for piece in self.in_gguf(t):
            x = gguf.quants.dequantize(piece, self.type_in_gguf(t))
            yield self.reordered(t, x, np.argsort(self.order(t))) if t.heads else x
