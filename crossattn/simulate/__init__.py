"""The parts of the simulated market: groups and shocks, the graph of leaders, dynamics, quotes.

Arrays in this room are (N, T), an asset a row, because an edge reads one asset's whole path.
"""
