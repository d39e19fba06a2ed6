"""All comparisons with other programs and libraries, one after the other (docs/peers.md). Exit code 1 if any fails.

    tools/peers.sh [--only NAME] [--seed N] [--build DIR] [--llama-cpp DIR] [--strings N]
"""

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers import formats, gguf_blocks, llama_logits, llama_quantize  # noqa: E402
from peers.common import TOOLS, Peers  # noqa: E402

HERE = Path(__file__).resolve().parent


def compile_llama_peer(source: Path, folder: Path) -> Path:
    libraries = sorted((source / "build").rglob("libllama.so"))
    if not libraries or not (source / "include" / "llama.h").exists():
        sys.exit(f"peers: {source} is not a source tree of llama.cpp with libllama.so somewhere in its build/")
    where, out = libraries[0].parent, folder / "llama_peer"
    command = [os.environ.get("CXX", "c++"), "-std=c++20", "-O2", f"-I{source}/include", f"-I{source}/ggml/include",
               HERE / "llama_peer.cpp", "-o", out, f"-L{where}", "-lllama", f"-Wl,-rpath,{where}", f"-Wl,-rpath-link,{where}"]
    subprocess.run(command, check=True)
    return out


def tokenizer(peers: Peers, strings: int) -> None:
    """Hugging Face tokenizers' ids of tokenizer_corpus.py and of random strings; then its speed."""
    run = subprocess.run([sys.executable, TOOLS / "tokenizer_golden.py", "--peers", "--sluice", peers.build / "sluice",
                          "--strings", str(strings), "--seed", str(peers.seed)], check=False)
    peers.check(run.returncode == 0, f"tokenizer_golden.py ended with {run.returncode}")
    run = subprocess.run([sys.executable, HERE / "tokenizer_speed.py", "--build", peers.build], check=False)
    peers.check(run.returncode == 0, f"tokenizer_speed.py ended with {run.returncode}")


def chat_template(peers: Peers) -> None:
    run = subprocess.run([sys.executable, HERE / "chat_template.py", "--llama-cpp", peers.llama_source, "--tests",
                          peers.build / "tests" / "test_model", "--seed", str(peers.seed)], check=False)
    peers.check(run.returncode == 0, f"chat_template.py ended with {run.returncode}")


def comparisons(options: argparse.Namespace) -> dict:
    """Name → (what it is, whether it needs llama.cpp, the function)."""
    return {
        "llama": ("logits: llama.cpp on the F32 GGUF, sluice on the safetensors", True, llama_logits.run),
        "blocks": ("quantized tensors: PyPI gguf, bit for bit", False, gguf_blocks.run),
        "formats": ("sluice on both formats of one checkpoint", False, formats.run),
        "quantize": ("files that llama.cpp quantized: sluice on PyPI gguf's dequantization", True, llama_quantize.run),
        "tokenizer": ("token ids: Hugging Face tokenizers", False, lambda peers: tokenizer(peers, options.strings)),
        "chat": ("chat template: Qwen3.5's own, rendered by Jinja2", True, chat_template),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="llama, blocks, formats, quantize, tokenizer, chat")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--build", type=Path, default=TOOLS.parent / "build")
    parser.add_argument("--llama-cpp", type=Path, default=os.environ.get("LLAMA_CPP") or None)
    parser.add_argument("--strings", type=int, default=100_000)
    options = parser.parse_args()
    skipped = []
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="sluice-peers-") as folder:
        peers = Peers(options.build.resolve(), Path(folder), options.seed)
        if options.llama_cpp:
            peers.llama_source = options.llama_cpp.resolve()
            peers.llama_peer = compile_llama_peer(peers.llama_source, peers.folder)
        for name, (what, needs_llama, compare) in comparisons(options).items():
            if options.only and name not in options.only:
                continue
            print(f"{name}: {what}", flush=True)
            if needs_llama and not peers.llama_source:
                print("  SKIPPED: LLAMA_CPP does not name a source tree of llama.cpp with a build in it")
                skipped.append(name)
                continue
            try:
                compare(peers)
            except Exception as problem:  # the others are still worth knowing
                traceback.print_exc()
                peers.check(False, f"{name} broke off: {problem}")
    print(f"{len(peers.failures)} wrong" + (f"; skipped for want of llama.cpp: {', '.join(skipped)}" if skipped else ""))
    return 1 if peers.failures else 0


if __name__ == "__main__":
    sys.exit(main())
