"""Makes the golden data in tests/golden: small random checkpoints and the logits of Hugging Face transformers."""
