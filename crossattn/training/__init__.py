"""The only place where data meets model: losses, loop, checkpoints, the forecaster."""
