"""Money: allocation, an engine that adds up, costs, metrics, walk-forward."""
