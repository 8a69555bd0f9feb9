"""What to beat, behind the same ``fit(train, val)`` and ``predict(data)``."""
