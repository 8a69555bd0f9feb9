from ._client import FetchLimits as FetchLimits
from ._downloads import Fetched as Fetched
from .bybit import BybitDataLoader as BybitDataLoader
from .calendar import date_by_sessions as date_by_sessions
from .calendar import session_times as session_times
from .samples import load_sample as load_sample
from .samples import sample_names as sample_names
from .yahoo import fetch_stock_data as fetch_stock_data
