"""``crossattn predict``: forecasts, target weights and orders from the bars of a folder."""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

import crossattn as ca
from crossattn import portfolio
from crossattn._io import write_file
from crossattn.cli import _run_folder as runs
from crossattn.cli._argtypes import new_file, positive_float, positive_int
from crossattn.cli._console import echo
from crossattn.data._tables import read_content
from crossattn.data.durations import span_text
from crossattn.data.files import iso_times, read_newest_bars
from crossattn.errors import InvalidInputError

MOST_SHOWN = 60  # characters of a header in a message
MOST_GROSS = 2.0  # times the equity: more is a slip of a unit, or of an account


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``crossattn predict``."""
    runs.add_folders(parser)
    add = parser.add_argument
    add("--out", type=new_file, required=True, metavar="FILE.csv")
    add("--last", type=positive_int, metavar="N", help="only the newest N closes, in a moment")
    add("--weights", type=new_file, metavar="FILE.csv", help="write target weights too")
    explained = "write what to buy and sell at the newest close; needs --equity"
    add("--orders", type=new_file, metavar="FILE.csv", help=explained)
    add("--equity", type=positive_float, metavar="MONEY", help="of the account, cash included")
    explained = "what the account holds: columns symbol and shares; default: cash alone"
    add("--holdings", type=Path, metavar="FILE.csv", help=explained)
    runs.add_decision_options(parser)


def run(args: argparse.Namespace) -> None:
    """Write ``close_time`` and a column per symbol: the forecast made when that bar closed.

    The cell of a symbol that has no bar there is empty, here and in the weights. Orders are for the
    newest close alone, and a symbol without a forecast gets none.
    """
    _check_options(args)
    for path in filter(None, (args.out, args.weights, args.orders)):
        runs.check_output(path, *runs.inputs_of(args), args.holdings)
    run = runs.open_run(args.run_dir)
    holdings = _read_holdings(args.holdings, run.symbols) if args.holdings else None
    times, forecasts, data = (_newest(run, args) if args.last else None) or _every(run, args)
    files = {args.out: runs.forecast_table(forecasts, times, run.symbols)}
    if args.weights or args.orders:
        weights = _weights(run, args, forecasts, data)
        if args.weights:
            files[args.weights] = runs.forecast_table(weights.to_numpy(), times, run.symbols)
        if args.orders:
            files[args.orders] = _orders(args, weights.iloc[-1], data, holdings)
    for path, table in files.items():
        write_file(path, table.to_csv(index=path != args.orders))
    newest = files[args.out].iloc[-1]
    if newest.isna().any():
        missing = ", ".join(newest.index[newest.isna()])
        echo(f"no forecast at {newest.name}: {missing} (no bar closed then)")
    _echo_old_series(args, times[-1])
    echo(f"wrote: {len(times)} forecasts of {len(run.symbols)} symbols to {args.out}")


def _echo_old_series(args: argparse.Namespace, newest: pd.Timestamp) -> None:
    """Warn of exogenous series that have ended: their last values are those of every later bar."""
    if args.exogenous:
        times = runs.read_series(args).index
        if newest - times[-1] > 2 * times.to_series().diff().max():
            ended = f"{span_text(newest - times[-1])} before the newest close"
            echo(f"warning: {args.exogenous} ends {ended}; its last values are used")


def _check_options(args: argparse.Namespace) -> None:
    if args.orders and not args.equity:
        raise InvalidInputError("--orders needs --equity MONEY, the value of the account")
    for name in ("equity", "holdings"):
        if getattr(args, name) and not args.orders:
            raise InvalidInputError(f"--{name} is for --orders FILE.csv: name that file too")
    paths = (args.out, args.weights, args.orders)
    given = [path.resolve() for path in paths if path]
    if len(set(given)) < len(given):
        raise InvalidInputError("--out, --weights and --orders must name different files")


def _read_holdings(path: Path, symbols: tuple[str, ...]) -> pd.Series:
    """Read the shares of each symbol from a CSV file with the columns symbol and shares."""
    lines = read_content(path).decode("utf-8-sig", errors="replace").splitlines()
    try:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines)] or [[]]
    except csv.Error as error:
        raise InvalidInputError(f"{path} is not a CSV file: {error}") from None
    if header != ["symbol", "shares"]:
        shown = ",".join(header)[:MOST_SHOWN]
        raise InvalidInputError(f"{path}: the header must be symbol,shares; it is {shown!r}")
    shares: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        if not row:
            continue
        symbol, number = row if len(row) == 2 else (None, "")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        wrong = {
            f"one of the run's symbols ({', '.join(symbols)}) and its shares": symbol
            not in symbols,
            "a symbol that no line before it names": symbol in shares,
            "a symbol and a finite number of shares": not math.isfinite(value),
        }
        for rule in (rule for rule, broken in wrong.items() if broken):
            raise InvalidInputError(f"{path}, line {line}: must hold {rule}, got {row}")
        shares[symbol] = value
    return pd.Series(shares, dtype=float)


def _weights(
    run: runs.Run, args: argparse.Namespace, forecasts: np.ndarray, data: ca.CrossAttentionData
) -> pd.DataFrame:
    """Return the weights that ``crossattn backtest`` would decide on at each close."""
    names = ("config", "target", "output_type")
    settings = {name: getattr(run.model, name) for name in names if hasattr(run.model, name)}
    model = SimpleNamespace(predict=lambda _: forecasts, horizon=run.horizon, **settings)
    return ca.CrossAttentionBacktest(model, **runs.decision_settings(args)).target_weights(data)


def _orders(
    args: argparse.Namespace,
    weights: pd.Series,
    data: ca.CrossAttentionData,
    holdings: pd.Series | None,
) -> pd.DataFrame:
    """Return the orders at the newest close."""
    closes = pd.DataFrame(data.closes[: data.ends[-1] + 1], columns=list(data.symbols))
    last = closes.ffill().iloc[-1]
    gross = 0.0 if holdings is None else float((holdings.abs() * last).sum())
    if gross > MOST_GROSS * args.equity:
        echo(f"warning: holdings are worth {gross:.6g}, {gross / args.equity:.3g} times --equity")
    orders = portfolio.rebalancing_orders(
        weights, last, holdings, equity=args.equity, transaction_cost=args.transaction_cost
    )
    time = iso_times(data.timestamps[-1:])[0]
    orders.insert(0, "time", time)
    traded, costs = orders["value"].abs().sum(), orders["cost"].sum()
    echo(f"orders at {time}: {len(orders)}, {traded:.6g} traded, {costs:.6g} costs")
    return orders


def _every(run: runs.Run, args: argparse.Namespace) -> tuple:
    """Forecast every window, or the last ones, from all bars of the folder."""
    frames = runs.read_run_bars(run, args.data, args.time_zone)
    data = runs.load_windows(run, frames, args, include_latest=True)
    data = data[-args.last :] if args.last else data
    return data.timestamps, run.forecast(data), data


def _newest(run: runs.Run, args: argparse.Namespace) -> tuple | None:
    """Forecast the last closes from the state that training left and the bars since.

    None where that is not possible: other bars than those of training, another format of files, or
    more closes than the state reaches back.
    """
    state, data = getattr(run.model, "state_", None), None
    needs_weights = bool(args.weights or args.orders)
    # risk has forgotten what came before the bars that the state keeps for its features
    frames = state and read_newest_bars(args.data, state.clock[0 if needs_weights else state.start])
    if not frames:
        return None
    frames = runs.bars_of_run(run, frames)
    exogenous = runs.series_of_run(run, args)
    try:
        times, forecasts = run.model.newest(frames, exogenous, args.last)
        if needs_weights:
            data = runs.load_windows(run, frames, args, include_latest=True)[-args.last :]
    except InvalidInputError:
        return None  # bars that differ from those of training: forecast from these bars alone
    if needs_weights:  # where hours differ, all bars tell how many of them a horizon holds
        steady = data.is_steady and np.allclose(data.own_bars_in_horizon, data.usual_horizon)
        if not (steady and data.timestamps.equals(times)):
            return None
    newest = []
    for symbol, frame in frames.items():
        closes = frame.index + pd.Timedelta(seconds=run.spacing.get(symbol, 0.0))
        closes = pd.DatetimeIndex(frame.get("close_time", closes))
        held = state.clock[pd.notna(state.closes[:, state.symbols.index(symbol)])]
        if not held[held >= closes[0]].isin(closes).all():
            return None  # the folder lacks bars that the state has read
        newest.append(closes[-1])
    if len(times) < args.last or max(newest) != times[-1]:
        return None
    return times, forecasts, data
