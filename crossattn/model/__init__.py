"""One frozen configuration, one network, its heads and presets."""
