"""Attention over (source, lag, channel) tokens: token channels and the parts that read them.

Built in chapter: The full model.
"""
