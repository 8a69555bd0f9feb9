"""Attention layers in pure torch: tensors in, tensors and attention out; no market words."""
