"""Tensors in time: windows, targets, splits with purge and embargo, scaling."""
