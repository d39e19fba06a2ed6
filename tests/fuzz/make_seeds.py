#!/usr/bin/env python3
"""Writes the seeds that tests/fuzz starts from: small inputs that are right (good_*), so that a fuzzer begins deep
inside, and some that are wrong. make_seeds.py [--check]: only compares with what is there."""

import copy
import json
import os
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("SLUICE", "")
os.environ.setdefault("SLUICE_SOURCE", str(HERE.parent.parent))
sys.path.insert(0, str(HERE.parent / "malformed"))
import formats  # noqa: E402
from harness import byte_tokenizer  # noqa: E402


def small_config(**changes):
    """As formats.tiny_config, with a vocabulary too small for a tokenizer: smaller files."""
    return formats.tiny_config(**({"vocab_size": 4, "eos_token_id": 2} | changes))


def safetensors():
    config = small_config()
    tensors = formats.tiny_tensors(config)
    yield "good_tiny.safetensors", formats.safetensors_bytes(tensors)
    typed = copy.deepcopy(tensors)
    for i, entry in enumerate(typed.values()):
        entry[0] = ("F32", "F16", "BF16")[i % 3]
        entry[2] = formats.numbers(formats.random.Random(i), entry[0], formats.product(entry[1]))
    yield "good_types.safetensors", formats.safetensors_bytes(typed)
    extra = tensors | {"model.visual.patch": ["I8", [3], b"abc"], "empty": ["F32", [0, 5], b""]}
    header = {"__metadata__": {"format": "pt"}} | formats.safetensors_header(extra)
    yield "good_skipped.safetensors", formats.safetensors_bytes(extra, header=header)
    nested = {name.replace("model.", "model.language_model."): entry for name, entry in tensors.items()}
    yield "good_nested.safetensors", formats.safetensors_bytes(nested)
    yield "empty_header.safetensors", formats.safetensors_bytes({})
    yield "one.safetensors", formats.safetensors_bytes({"a": ["F32", [1], b"\0\0\0\0"]})


def gguf():
    yield "good_tiny.gguf", formats.tiny_gguf(small_config(), "BF16", tokenizer=False).bytes()
    yield "good_v2_f32.gguf", formats.tiny_gguf(small_config(), "F32", version=2, tokenizer=False).bytes()
    yield "good_tied_f16.gguf", formats.tiny_gguf(small_config(tie_word_embeddings=True), "F16", tokenizer=False).bytes()
    yield "good_tokenizer.gguf", formats.tiny_gguf(formats.tiny_config(hidden_size=2, tie_word_embeddings=True),
                                                   "BF16").bytes()
    # One layer that is wide enough for blocks.
    wide = {"num_hidden_layers": 1, "layer_types": ["linear_attention"], "full_attention_interval": 2, "vocab_size": 3,
            "linear_num_value_heads": 1, "linear_key_head_dim": 1, "linear_value_head_dim": 1,
            "linear_conv_kernel_dim": 2, "tie_word_embeddings": True, "eos_token_id": 2, "intermediate_size": 1}
    for kind, (_, block, _, _) in formats.GGML.items():
        if block > 1:
            config = formats.tiny_config(**(wide | {"hidden_size": block}))
            yield f"good_{kind.lower()}.gguf", formats.tiny_gguf(config, kind, tokenizer=False).bytes()
    types = [["k", kind, formats.gguf_scalar(kind, "text" if kind == formats.STRING else 1)]
             for kind in range(13) if kind != formats.ARRAY]
    for i, (_, kind, value) in enumerate(types):
        keys = [["k", kind, value], ["l", formats.ARRAY, struct.pack("<IQ", kind, 2) + 2 * value]]
        yield f"key_{i}.gguf", formats.Gguf(keys, []).bytes()
    yield "nested_array.gguf", formats.Gguf(
        [["k", formats.ARRAY, struct.pack("<IQ", 9, 1) + formats.gguf_array(formats.U8, [1, 2])]], []).bytes()
    yield "split.gguf", formats.Gguf([["split.no", 2, b"\0\0"], ["split.count", 2, b"\2\0"]], []).bytes()


def json_bytes(value):
    return json.dumps(value, ensure_ascii=False).encode()


def tokenizer_json():
    tokenizer = byte_tokenizer()
    tokenizer["model"]["vocab"]["he"] = 300
    tokenizer["model"]["merges"] = ["h e"]
    yield "good_spaced.json", json_bytes(tokenizer)
    tokenizer["model"]["vocab"] |= {"ll": 301, "hell": 302, "Ġt": 303}
    tokenizer["model"]["merges"] = [["h", "e"], ["l", "l"], ["he", "ll"], ["Ġ", "t"]]
    tokenizer["model"]["ignore_merges"] = True
    tokenizer["normalizer"] = None
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}]}
    yield "good_pairs.json", json_bytes(tokenizer)
    tokenizer["model"]["merges"].append(["no", "such"])
    yield "unknown_merge.json", json_bytes(tokenizer)


def config_json():
    config = small_config()
    yield "good_tiny.json", json_bytes(config)
    nested = {"architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": config,
              "vision_config": {"hidden_size": 16}, "tie_word_embeddings": False, "eos_token_id": [1, 2]}
    yield "good_nested.json", json_bytes(nested)
    plain = {key: value for key, value in config.items() if key not in ("layer_types", "rope_parameters", "dtype")}
    plain |= {"rope_scaling": {"type": "default"}, "rope_theta": 5000, "partial_rotary_factor": 0.25,
              "torch_dtype": "float32"}
    yield "good_old_names.json", json_bytes(plain)
    yield "mtp.json", json_bytes(config | {"mtp_num_hidden_layers": 1, "num_experts": 4})


def chat_messages():
    def message(role, content, **rest):
        return {"role": role, "content": content, **rest}

    call = {"id": "1", "type": "function",
            "function": {"name": "add", "arguments": {"a": 1, "b": "two", "c": [1, None], "d": {"e": True}}}}
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}}}
    yield "good_plain.json", json_bytes([message("system", "Be brief."), message("user", "Hi \u00e9\U0001F600")])
    yield "good_history.json", json_bytes([
        message("user", "1"), message("assistant", "<think>\nhm\n</think>\n\n2"), message("user", "3"),
        message("assistant", "4", reasoning_content="thought")])
    yield "good_tools.json", json_bytes([
        message("system", ""), message("user", "a+b?"), message("assistant", "", tool_calls=[call]),
        message("tool", "3"), message("tool", "4"), message("assistant", "7"), message("user", "thanks")])
    yield "good_object.json", json_bytes({"messages": [message("user", "Hi")], "tools": [tool]})
    yield "parts.json", json_bytes([message("user", [{"type": "text", "text": "Hi"}])])
    yield "image.json", json_bytes([message("user", [{"type": "image", "image": "x.png"}])])


PTX_HEADER = ".version 9.0\n.target sm_80\n.address_size 64\n"


def ptx_kernel(name, registers, body, parameters=".param .u64 p", before="", after=""):
    """A kernel whose first lines put p, a pointer to global memory, into %rd1."""
    body = "\n\t".join(line.strip() for line in body.strip().splitlines())
    return (f"{PTX_HEADER}{before}.visible .entry {name}({parameters}){after}\n{{\n\t{registers}\n"
            f"\tld.param.u64 %rd1, [p];\n\tcvta.to.global.u64 %rd1, %rd1;\n\t{body}\n\tret;\n}}\n").encode()


def ptx():
    registers = ".reg .pred %p<4>; .reg .b16 %rs<8>; .reg .b32 %r<16>; .reg .f32 %f<12>; .reg .f64 %fd<4>; .reg .b64 %rd<8>;"
    yield "good_loop.ptx", ptx_kernel("loop", registers, """
        .loc 1 3 5
        mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
        mad.lo.s32 %r4, %r2, %r3, %r1;
        mul.wide.u32 %rd2, %r4, 4; add.s64 %rd3, %rd1, %rd2;
        mov.u32 %r5, 0;
        $L1: ld.global.f32 %f1, [%rd3]; fma.rn.f32 %f2, %f1, 0f40000000, 0f3F800000; st.global.f32 [%rd3], %f2;
        add.s32 %r5, %r5, 1; setp.lt.s32 %p1, %r5, %r1;
        @%p1 bra $L1;
        cvt.rn.f16.f32 %rs1, %f2; cvt.rzi.s32.f32 %r6, %f2; cvt.f64.f32 %fd1, %f2;
        div.rn.f64 %fd2, %fd1, 0d4008000000000000; rsqrt.approx.f32 %f3, %f2;""", after=" .maxntid 128, 1, 1") + (
            b'.file 1 "kernel.cu"\n')
    yield "good_shared.ptx", ptx_kernel("shared", registers, """
        mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; mov.u32 %r3, tile; add.s32 %r4, %r3, %r2;
        st.shared.u32 [%r4], %r1; bar.sync 0; xor.b32 %r5, %r4, 4; ld.shared.u32 %r6, [%r5];
        shfl.sync.bfly.b32 %r7|%p1, %r6, 1, 31, -1; vote.sync.ballot.b32 %r8, %p1, -1;
        atom.shared.add.u32 %r9, [tile], 1; red.release.gpu.global.add.u32 [%rd1], %r9;
        ld.acquire.gpu.global.u32 %r10, [%rd1]; fence.acq_rel.gpu; barrier.sync.aligned 1, 64;
        prmt.b32 %r11, %r9, %r10, 0x3210; lop3.b32 %r12, %r9, %r10, %r11, 0x96; bfe.u32 %r13, %r12, 3, 5;""",
                                         before=".shared .align 16 .b8 tile[256];\n")
    yield "good_tensor.ptx", ptx_kernel("tensor", registers, """
        mov.u32 %r1, tile; cp.async.cg.shared.global [%r1], [%rd1], 16; cp.async.commit_group; cp.async.wait_group 0;
        bar.sync 0; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2, %r3, %r4, %r5}, [%r1];
        mov.f32 %f1, 0f00000000;
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, {%r2, %r3, %r4, %r5}, {%r2, %r3},
        {%f1, %f1, %f1, %f1};
        st.global.v4.f32 [%rd1], {%f2, %f3, %f4, %f5};""", before=".extern .shared .align 16 .b8 tile[];\n")
    yield "good_calls.ptx", ptx_kernel("calls", registers, """
        .local .align 8 .b8 own[32]; .reg .b64 %SP;
        mov.u64 %SP, own; cvta.local.u64 %rd2, %SP; st.u32 [%rd2+4], 7;
        mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 1;
        $T: .branchtargets $A, $B;
        brx.idx %r2, $T;
        $A: ld.const.u32 %r3, [table+4]; bra.uni $C;
        $B: ld.global.u32 %r3, [counter];
        $C: { .param .b32 in; st.param.b32 [in], %r3; .param .b32 out; call.uni (out), twice, (in);
        ld.param.b32 %r4, [out]; }
        st.global.u32 [%rd1], %r4; @!%p2 exit; trap;""", before=(
            ".const .align 4 .u32 table[3] = {1, 2, 0x30};\n.global .align 4 .u32 counter = 5;\n"
            ".func (.param .b32 r) twice(.param .b32 a)\n{\n\t.reg .b32 %r<3>;\n\tld.param.u32 %r1, [a];\n"
            "\tadd.s32 %r2, %r1, %r1;\n\tst.param.b32 [r], %r2;\n\tret;\n}\n"))
    yield "good_inlined.ptx", ptx_kernel("inlined", registers, """
        .loc 1 9 3
        .loc 1 4 3, function_name $S, inlined_at 1 9 3
        fence.sc.gpu;
        .loc 2 2 3, function_name $S+4, inlined_at 1 4 3
        st.global.u32 [%rd1], 1;""") + b'.file 1 "kernel.cu"\n.file 2 "header.h"\n'
    # Each kernel asks for nearly all the local memory that a thread can have: once 15 seconds for 13 kB of text.
    big = ".entry k%d()\n{\n\t.local .b8 x[500000];\n\tst.local.u8 [x], 0;\n}\n"
    yield "much_local_memory.ptx", (PTX_HEADER + "".join(big % i for i in range(200))).encode()
    yield "no_kernel.ptx", PTX_HEADER.encode()
    yield "unknown.ptx", ptx_kernel("unknown", registers, "tex.2d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [t, {%r1, %r2}];")


def fat_binary():
    """Headers as nvcc 13 writes them (src/ptx/fat_binary.cpp); the text is not compressed, or by LZ4."""
    def entry(kind, architecture, payload, flags=0x11, compressed=0, text=0):
        return struct.pack("<HHIQIIHHIQQQQQQ", kind, 0x101, 80, len(payload), compressed, 0x40, 0, 9, architecture, 0, flags, 0,
                           text, 0x48, 0) + payload

    def binary(*entries):
        body = b"".join(entries)
        return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body

    plain = PTX_HEADER.encode() + b"\0" * 3
    yield "good_plain.fatbin", binary(entry(2, 86, b"\x7fELF"), entry(1, 75, plain), entry(1, 80, plain))
    # "abcd" as it is, then 8 bytes from 4 back, then the rest, which must be no shorter.
    packed = bytes([0x44, *b"abcd", 4, 0, 0xC0]) + b"and the rest"
    yield "good_lz4.fatbin", binary(entry(1, 80, packed, 0x2011, len(packed), 24))
    yield "newer.fatbin", binary(entry(1, 90, plain))
    yield "empty.fatbin", binary()


def main():
    check = "--check" in sys.argv[1:]
    wrong, size = [], 0
    for make in (safetensors, gguf, tokenizer_json, config_json, chat_messages, ptx, fat_binary):
        folder = HERE / "seeds" / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in make():
            size += len(data)
            path = folder / name
            if not check:
                path.write_bytes(data)
            elif not path.exists() or path.read_bytes() != data:
                wrong.append(str(path.relative_to(HERE)))
    print(f"{size} bytes of seeds")
    if wrong:
        sys.exit("not what make_seeds.py makes: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
