"""The Qwen3.5 text model, small, for training on a CPU.

    x   = embed[ids]
    x  += mixer(A(x));  x += down(silu(gate(h)) * up(h)),  h = A(x)     per layer
    y   = A(x);  logits = y embed^T                                    (tied)

A is the zero-centred RMSNorm, y = x / rms(x) * (1 + w). Three layers in four mix with a
gated DeltaNet, the fourth with gated attention. Modules are named so that `state_dict`
has the tensor names of the published checkpoints (`mtp.*` included).

Rows are packed: several chats stand in one row, and nothing may leak from one into the
next. `Packing` holds what that takes, derived from the positions (0 = a chat begins).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from delta_rule import chunk_delta_rule


@dataclass
class Config:
    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    linear_num_key_heads: int = 2
    linear_num_value_heads: int = 4
    linear_key_head_dim: int = 32
    linear_value_head_dim: int = 32
    linear_conv_kernel_dim: int = 4
    full_attention_interval: int = 4
    partial_rotary_factor: float = 0.5
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    chunk: int = 32                        # of the delta rule; no part of the maths
    dtype: torch.dtype = field(default=torch.float32)   # of the large products

    @property
    def rotary(self):
        return int(self.head_dim * self.partial_rotary_factor)


class Packing:
    """What keeps the chats of a row apart. positions: (batch, time), 0 where a chat begins."""

    RESET = -30.0   # log decay that empties the state; a larger one costs digits in the cumsum

    def __init__(self, positions, cfg):
        begins = positions == 0
        chat = begins.cumsum(1)
        time = positions.shape[1]
        causal = torch.ones(time, time, dtype=torch.bool).tril()
        self.attention = ((chat[:, :, None] == chat[:, None, :]) & causal)[:, None]  # (B,1,T,T)
        self.reset = begins[..., None] * self.RESET                                  # (B,T,1)
        # Tap j of the conv looks j tokens back, which must lie in the same chat.
        taps = torch.arange(cfg.linear_conv_kernel_dim)
        self.taps = (positions[..., None] >= taps).float()                           # (B,T,K)
        inverse = cfg.rope_theta ** (-torch.arange(0, cfg.rotary, 2).float() / cfg.rotary)
        angle = positions[..., None].float() * inverse
        angle = torch.cat([angle, angle], -1)[:, None]                               # (B,1,T,rotary)
        self.cos, self.sin = angle.cos(), angle.sin()


def norm(x, weight, eps):
    """Zero-centred RMSNorm in fp32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * (1.0 + weight)


def linear(x, weight, dtype):
    return F.linear(x.to(dtype), weight.to(dtype))


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim))


def matrix(rows, columns, scale=1.0):
    layer = nn.Linear(columns, rows, bias=False)
    nn.init.normal_(layer.weight, std=scale * columns**-0.5)
    return layer


class GatedDeltaNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        heads, dim_k, dim_v = cfg.linear_num_value_heads, cfg.linear_key_head_dim, cfg.linear_value_head_dim
        self.keys, self.values = cfg.linear_num_key_heads * dim_k, heads * dim_v
        channels = 2 * self.keys + self.values
        self.in_proj_qkv = matrix(channels, cfg.hidden_size)
        self.in_proj_z = matrix(self.values, cfg.hidden_size)
        self.in_proj_b = matrix(heads, cfg.hidden_size, 0.1)
        self.in_proj_a = matrix(heads, cfg.hidden_size, 0.1)
        self.conv1d = nn.Conv1d(channels, channels, cfg.linear_conv_kernel_dim, groups=channels, bias=False)
        # Mamba-2's start: time steps log-uniform in 1e-3 .. 1e-1, rates uniform in 1 .. 16, so
        # that memories of a few to some hundred tokens are there from the first step.
        step = torch.exp(torch.rand(heads) * 4.6 - 6.9)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.log(1 + 15 * torch.rand(heads)))
        self.norm = Norm(dim_v)
        nn.init.ones_(self.norm.weight)        # this one is a plain RMSNorm, weight around 1
        self.out_proj = matrix(cfg.hidden_size, self.values, 0.0)

    def before(self, x, weight, taps, reset):
        """Normed input and `weight` of the layer's norm -> q, k, v, z, log decay, beta by head."""
        cfg, (batch, time, _) = self.cfg, x.shape
        h = norm(x, weight, cfg.rms_norm_eps)
        fused = torch.cat([self.in_proj_qkv.weight, self.in_proj_z.weight,
                           self.in_proj_b.weight, self.in_proj_a.weight])
        heads, channels = cfg.linear_num_value_heads, 2 * self.keys + self.values
        qkv, z, b, a = linear(h, fused, cfg.dtype).float().split(
            [channels, self.values, heads, heads], -1)
        filters = self.conv1d.weight[:, 0].T                                # (K, channels)
        last = cfg.linear_conv_kernel_dim - 1
        mixed = qkv * filters[last]
        for back in range(1, last + 1):
            shifted = F.pad(qkv, (0, 0, back, 0))[:, :time]
            mixed = mixed + shifted * filters[last - back] * taps[..., back, None]
        q, k, v = F.silu(mixed).split([self.keys, self.keys, self.values], -1)
        shape = (batch, time, -1, cfg.linear_key_head_dim)
        q, k = q.view(shape), k.view(shape)
        q = q * torch.rsqrt(q.square().sum(-1, keepdim=True) + 1e-6) * cfg.linear_key_head_dim**-0.5
        k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
        ratio = cfg.linear_num_value_heads // cfg.linear_num_key_heads
        q, k = q.repeat_interleave(ratio, 2), k.repeat_interleave(ratio, 2)
        v = v.view(batch, time, heads, -1)
        g = -self.A_log.exp() * F.softplus(a + self.dt_bias) + reset
        # Head-major, contiguous: the delta rule is one batch of small products per head.
        q, k, v = (y.transpose(1, 2).contiguous() for y in (q, k, v))
        return q, k, v, z, g.transpose(1, 2).contiguous(), b.sigmoid().transpose(1, 2).contiguous()

    def after(self, o, z):
        batch, heads, time, dim = o.shape
        o = o.transpose(1, 2)
        o = o * torch.rsqrt(o.square().mean(-1, keepdim=True) + self.cfg.rms_norm_eps) * self.norm.weight
        o = o * F.silu(z.view(batch, time, heads, dim))
        return linear(o.reshape(batch, time, heads * dim), self.out_proj.weight, self.cfg.dtype).float()


class GatedAttention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        queries, pairs = cfg.num_attention_heads * cfg.head_dim, cfg.num_key_value_heads * cfg.head_dim
        self.q_proj = matrix(2 * queries, cfg.hidden_size)     # per head: query, then gate
        self.k_proj = matrix(pairs, cfg.hidden_size)
        self.v_proj = matrix(pairs, cfg.hidden_size)
        self.o_proj = matrix(cfg.hidden_size, queries, 0.0)
        self.q_norm, self.k_norm = Norm(cfg.head_dim), Norm(cfg.head_dim)

    def before(self, x, weight, cos, sin):
        cfg, (batch, time, _) = self.cfg, x.shape
        h = norm(x, weight, cfg.rms_norm_eps)
        fused = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        pairs = cfg.num_key_value_heads * cfg.head_dim
        qg, k, v = linear(h, fused, cfg.dtype).float().split(
            [2 * cfg.num_attention_heads * cfg.head_dim, pairs, pairs], -1)
        q, gate = qg.view(batch, time, cfg.num_attention_heads, 2 * cfg.head_dim).chunk(2, -1)
        k, v = (y.view(batch, time, cfg.num_key_value_heads, cfg.head_dim) for y in (k, v))
        q = rotate(norm(q, self.q_norm.weight, cfg.rms_norm_eps).transpose(1, 2), cos, sin)
        k = rotate(norm(k, self.k_norm.weight, cfg.rms_norm_eps).transpose(1, 2), cos, sin)
        ratio = cfg.num_attention_heads // cfg.num_key_value_heads
        k, v = k.repeat_interleave(ratio, 1), v.transpose(1, 2).repeat_interleave(ratio, 1)
        return q.contiguous(), k.contiguous(), v.contiguous(), gate

    def after(self, o, gate):
        o = (o.transpose(1, 2) * gate.sigmoid()).flatten(2)
        return linear(o, self.o_proj.weight, self.cfg.dtype).float()


def rotate(x, cos, sin):
    """RoPE on the first `rotary` dims, pairs (j, j + rotary/2)."""
    rotary = cos.shape[-1]
    turned, kept = x[..., :rotary], x[..., rotary:]
    a, b = turned.chunk(2, -1)
    return torch.cat([turned * cos + torch.cat([-b, a], -1) * sin, kept], -1)


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.gate_proj = matrix(cfg.intermediate_size, cfg.hidden_size)
        self.up_proj = matrix(cfg.intermediate_size, cfg.hidden_size)
        self.down_proj = matrix(cfg.hidden_size, cfg.intermediate_size, 0.0)


class Layer(nn.Module):
    def __init__(self, cfg, full):
        super().__init__()
        self.cfg, self.full = cfg, full
        if full:
            self.self_attn = GatedAttention(cfg)
        else:
            self.linear_attn = GatedDeltaNet(cfg)
        self.mlp = MLP(cfg)
        self.input_layernorm, self.post_attention_layernorm = Norm(cfg.hidden_size), Norm(cfg.hidden_size)

    def feed_forward(self, x):
        cfg, mlp = self.cfg, self.mlp
        h = norm(x, self.post_attention_layernorm.weight, cfg.rms_norm_eps)
        fused = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        gate, up = linear(h, fused, cfg.dtype).chunk(2, -1)
        return x + linear(F.silu(gate) * up, mlp.down_proj.weight, cfg.dtype).float()

    # The two halves around the token mixer are what train.py compiles: each is a chain of
    # elementwise work and one product, which is where an uncompiled step loses its time.
    def before(self, x, *context):
        mixer = self.self_attn if self.full else self.linear_attn
        return mixer.before(x, self.input_layernorm.weight, *context)

    def after(self, x, o, z):
        mixer = self.self_attn if self.full else self.linear_attn
        return self.feed_forward(x + mixer.after(o, z))

    def forward(self, x, packing):
        if self.full:
            q, k, v, z = self.before(x, packing.cos, packing.sin)
            o = F.scaled_dot_product_attention(q, k, v, packing.attention)
        else:
            q, k, v, z, g, beta = self.before(x, packing.taps, packing.reset)
            o = chunk_delta_rule(q, k, v, g, beta, self.cfg.chunk)
        return self.after(x, o, z)


class Trunk(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        self.layers = nn.ModuleList(Layer(cfg, (i + 1) % cfg.full_attention_interval == 0)
                                    for i in range(cfg.num_hidden_layers))
        self.norm = Norm(cfg.hidden_size)


class MultiTokenPredictor(nn.Module):
    """One attention layer that guesses the token after next:
    x = fc [A(embed(t[i+1])) ; A(y[i])], one layer, y' = A(x), logits = y' embed^T for t[i+2]."""

    def __init__(self, cfg):
        super().__init__()
        self.fc = matrix(cfg.hidden_size, 2 * cfg.hidden_size)
        self.pre_fc_norm_embedding, self.pre_fc_norm_hidden = Norm(cfg.hidden_size), Norm(cfg.hidden_size)
        self.layers = nn.ModuleList([Layer(cfg, True)])
        self.norm = Norm(cfg.hidden_size)


class DemoModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.model = Trunk(cfg)
        self.mtp = MultiTokenPredictor(cfg)

    def hidden(self, ids, packing):
        """ids (batch, time) -> y (batch, time, hidden), after the final norm."""
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, packing)
        return norm(x, self.model.norm.weight, self.cfg.rms_norm_eps)

    def head(self, y):
        return linear(y, self.model.embed_tokens.weight, self.cfg.dtype).float()

    def draft_hidden(self, y, next_ids, packing, embedding):
        """y' whose logits predict the token after `next_ids`; y is the trunk's normed output."""
        mtp, eps = self.mtp, self.cfg.rms_norm_eps
        e = norm(F.embedding(next_ids, embedding), mtp.pre_fc_norm_embedding.weight, eps)
        h = norm(y, mtp.pre_fc_norm_hidden.weight, eps)
        x = linear(torch.cat([e, h], -1), mtp.fc.weight, self.cfg.dtype).float()
        return norm(mtp.layers[0](x, packing), mtp.norm.weight, eps)
