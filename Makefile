# The front door. `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help deps-build deps-test build demo test arm64 soak fuzz mutation peers cuda-report gpu-bundle bench lint format golden install clean

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

deps-build:
	@tools/install_dependencies.sh build

deps-test:
	@tools/install_dependencies.sh build test

build: deps-build ## build/sluice, optimised
	@cmake --preset release -DSLUICE_TESTS=OFF -DSLUICE_UNITY=OFF -DSLUICE_CUDA_SASS=ALL >/dev/null
	@cmake --build --preset release -j $(JOBS)

demo: build ## build, then ask the bundled model a few questions
	@tools/demo.sh build/sluice

test: deps-test ## all tests: release, sanitizers, formatting, static checks
	@JOBS=$(JOBS) tools/test.sh

arm64: deps-test ## the portable code cross-compiled for 64-bit ARM, and run by qemu (part of `make test`)
	@JOBS=$(JOBS) tools/arm64.sh

soak: deps-test ## thousands of runs of the CUDA kernels, then all tests again and again, with fresh seeds (MINUTES=30)
	@JOBS=$(JOBS) tools/soak.sh $(or $(MINUTES),30)

fuzz: deps-test ## hostile inputs for every reader, MINUTES=2 each
	@JOBS=$(JOBS) tools/fuzz.sh $(or $(MINUTES),2)

mutation: deps-test ## known mistakes made in the sources, one at a time: a test must notice each
	@python3 tools/mutation.py --jobs $(JOBS)

peers: deps-test ## compare with PyPI's gguf and tokenizers, and with llama.cpp (LLAMA_CPP=its source tree, built)
	@cmake --preset release -DSLUICE_TESTS=ON >/dev/null
	@cmake --build --preset release -j $(JOBS) --target sluice test_model
	@tools/peers.sh

cuda-report: deps-test ## what ptxas made of the CUDA kernels: registers, spills, code, load widths; their instructions counted
	@nvcc=$$(tools/get_nvcc.sh) && cmake --preset release -DSLUICE_CUDA=ON -DSLUICE_CUDA_SASS=ALL -DSLUICE_NVCC=$$nvcc >/dev/null
	@cmake --build --preset release -j $(JOBS) --target sluice sluice_ptx_driver
	@tools/cuda_report.py --check build/cuda
	@tools/count_instructions.py build/sluice

gpu-bundle: deps-test ## an archive to try on a machine with a GPU and no network: build/sluice-gpu.tar.gz
	@JOBS=$(JOBS) tools/gpu_bundle.sh

bench: deps-test ## speeds on this machine, each beside its floor
	@cmake --preset release -DSLUICE_BENCH=ON >/dev/null
	@cmake --build --preset release -j $(JOBS) --target sluice_bench
	@build/bench/sluice_bench --benchmark_counters_tabular=true

lint: deps-test ## both compilers with -Werror, clang-format, the whole of clang-tidy
	@JOBS=$(JOBS) tools/lint.sh

format: deps-test ## rewrite our sources in the project's format
	@git ls-files --cached --others --exclude-standard '*.cpp' '*.h' | xargs clang-format-19 -i

golden: ## remake the reference data with Hugging Face transformers and compare
	@tools/golden.sh --check

install: build ## install program, bundled model, man page, completions (PREFIX=/usr/local)
	@cmake --install build --prefix $(PREFIX)

clean: ## remove all build trees
	@rm -rf build build-*
