"""The inference server: continuous batching at iteration level over a paged KV cache."""
