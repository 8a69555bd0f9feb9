from .market import SimulatedMarket as SimulatedMarket
from .market import simulate_market as simulate_market
from .scenarios import describe_scenarios as describe_scenarios
