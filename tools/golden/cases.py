"""The cases: which small checkpoints there are, and what they cover together.

tests/oracle/golden_coverage_test.cpp reads the committed configs and fails when a part of the coverage is gone.
"""

from dataclasses import dataclass, field

SEED = 20260131  # of every weight and prompt; each stream is keyed by (seed, case, name)


@dataclass(frozen=True)
class Case:
    name: str
    hidden: int
    intermediate: int
    vocab: int
    layers: str  # one letter a layer: d = DeltaNet, a = attention
    heads: tuple[int, int]  # query heads, KV heads
    head_dim: int
    delta_heads: tuple[int, int]  # K heads, V heads
    delta_dims: tuple[int, int]  # key head size, value head size
    prompts: tuple[int, ...]  # lengths
    conv: int = 4
    rotary_share: float = 0.25
    theta: float = 1e7
    eps: float = 1e-6
    tied: bool = True
    stored: str = "BF16"
    small_keys: bool = False  # the last K head's queries and keys are so small that the L2 norm's epsilon counts
    delta_f32: bool = True  # A_log and linear_attn.norm in F32 (Qwen3.5) or in the stored type (Qwen3.6)
    nested: bool = False  # qwen3_5 with text_config, prefix model.language_model., some model.visual.* tensors
    mtp: bool = False
    rope_keys: str = "rope_parameters"  # or "top_level", as older configs have it
    dtype_key: str = "dtype"  # or "torch_dtype"
    layer_keys: tuple[str, ...] = field(default=("full_attention_interval", "layer_types"))

    @property
    def interval(self) -> int | None:
        """full_attention_interval, or None where the layers follow no interval."""
        first = self.layers.find("a") + 1
        regular = all((c == "a") == ((i + 1) % first == 0) for i, c in enumerate(self.layers))
        return first if regular and first > 1 else None

    @property
    def rotary_dim(self) -> int:
        return int(self.head_dim * self.rotary_share)

    @property
    def prefix(self) -> str:
        return "model.language_model." if self.nested else "model."


CASES = (
    # Qwen3.5-0.8B in small: as many V as K heads, tied head, one layer in four attends.
    Case("equal_heads_tied", hidden=50, intermediate=82, vocab=101, layers="ddda", heads=(2, 2), head_dim=32,
         delta_heads=(2, 2), delta_dims=(16, 16), prompts=(1, 4, 65), mtp=True,
         layer_keys=("full_attention_interval",)),
    # The published layout of Qwen3.5-9B: nested, untied, two V heads per K head.
    Case("nested_untied", hidden=36, intermediate=70, vocab=91, layers="ddda", heads=(6, 2), head_dim=32,
         delta_heads=(2, 4), delta_dims=(16, 24), prompts=(2, 5, 64), tied=False, nested=True, mtp=True),
    # Nested and tied, all of it BF16 as in later releases, older spelling of dtype.
    Case("nested_tied", hidden=38, intermediate=62, vocab=83, layers="dada", heads=(4, 1), head_dim=32,
         delta_heads=(2, 6), delta_dims=(8, 12), prompts=(3, 63, 17), nested=True, delta_f32=False,
         dtype_key="torch_dtype", layer_keys=("layer_types",)),
    # Qwen3.5's attention head.
    Case("head256", hidden=30, intermediate=60, vocab=75, layers="ddda", heads=(4, 1), head_dim=256,
         delta_heads=(2, 2), delta_dims=(24, 16), prompts=(1, 5, 127)),
    Case("head72", hidden=42, intermediate=66, vocab=77, layers="ddadd", heads=(6, 1), head_dim=72,
         delta_heads=(3, 6), delta_dims=(8, 20), prompts=(2, 4, 63), rotary_share=0.5, theta=1e4, tied=False,
         rope_keys="top_level", layer_keys=("full_attention_interval",)),
    Case("head64_gqa8", hidden=36, intermediate=58, vocab=69, layers="ddda", heads=(8, 1), head_dim=64,
         delta_heads=(2, 6), delta_dims=(16, 16), prompts=(3, 65, 31), theta=1e6, delta_f32=False,
         rope_keys="top_level", dtype_key="torch_dtype"),
    # Rotary over the whole head; two taps.
    Case("full_rotary_conv2", hidden=38, intermediate=54, vocab=67, layers="dda", heads=(16, 2), head_dim=32,
         delta_heads=(1, 3), delta_dims=(20, 12), prompts=(1, 5, 64), conv=2, rotary_share=1.0, theta=5e5,
         eps=1e-5, tied=False),
    # Three taps; the last layer is a DeltaNet.
    Case("conv3_kv3", hidden=46, intermediate=74, vocab=85, layers="dadad", heads=(3, 3), head_dim=32,
         delta_heads=(4, 4), delta_dims=(12, 20), prompts=(2, 3, 127), conv=3, rotary_share=0.5, theta=1e5,
         eps=1e-5, delta_f32=False, small_keys=True, layer_keys=("layer_types",)),
    # The longest prompt, the smallest model that still has everything.
    Case("long_prompt", hidden=28, intermediate=44, vocab=53, layers="dda", heads=(6, 2), head_dim=32,
         delta_heads=(2, 4), delta_dims=(12, 8), prompts=(1, 4, 150), tied=False),
    Case("stored_f32", hidden=26, intermediate=42, vocab=59, layers="dada", heads=(3, 1), head_dim=32,
         delta_heads=(2, 2), delta_dims=(10, 14), prompts=(2, 64, 11), stored="F32", eps=1e-5, rotary_share=0.75,
         theta=1e4, rope_keys="top_level", layer_keys=("full_attention_interval",)),
    # Subnormal numbers among the small keys.
    Case("stored_f16", hidden=34, intermediate=50, vocab=63, layers="ddda", heads=(3, 1), head_dim=64,
         delta_heads=(2, 4), delta_dims=(12, 12), prompts=(3, 5, 65), stored="F16", tied=False,
         delta_f32=False, small_keys=True, dtype_key="torch_dtype"),
    # A layer list that follows no interval, and a large epsilon.
    Case("irregular_layers", hidden=25, intermediate=52, vocab=71, layers="addaad", heads=(12, 2), head_dim=32,
         delta_heads=(3, 3), delta_dims=(12, 8), prompts=(1, 4, 66), eps=1e-3, theta=1e4,
         rope_keys="top_level", layer_keys=("layer_types",)),
    # Qwen3.5's DeltaNet head.
    Case("delta128", hidden=34, intermediate=57, vocab=79, layers="da", heads=(4, 2), head_dim=32,
         delta_heads=(1, 2), delta_dims=(128, 128), prompts=(2, 3, 65)),
    # Everything as small and as odd as it gets.
    Case("tiny", hidden=7, intermediate=11, vocab=13, layers="dad", heads=(2, 1), head_dim=6,
         delta_heads=(1, 3), delta_dims=(3, 5), prompts=(1, 2, 3, 4, 5, 63, 127), rotary_share=0.67, theta=100.0,
         eps=1e-4, tied=False),
)
