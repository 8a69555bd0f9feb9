"""One frozen configuration, one network, its heads and presets.

Built in chapter: The full model.
"""
