"""Bars of one symbol (frames) or many (panels), when each is known, files and gaps."""

from crossattn.data.doctor import KINDS, BarsReport, check_bars
from crossattn.data.files import read_bars, read_exogenous, write_bars
from crossattn.data.fingerprint import fingerprint_bars
from crossattn.data.frame import Frame, Frames, check_frame, check_frames, close_times
from crossattn.data.gaps import missing_bars
from crossattn.data.panel import Panel, align_panel, as_panel, symbols_of

__all__ = [
    "KINDS",
    "BarsReport",
    "Frame",
    "Frames",
    "Panel",
    "align_panel",
    "as_panel",
    "check_bars",
    "check_frame",
    "check_frames",
    "close_times",
    "fingerprint_bars",
    "missing_bars",
    "read_bars",
    "read_exogenous",
    "symbols_of",
    "write_bars",
]
