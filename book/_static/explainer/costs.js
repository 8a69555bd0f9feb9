// What costs leave: the engine's arithmetic on the forecaster's own weights, with sliders.
(() => {
  "use strict";
  const { forward, knownSeries, range, sum } = window.crossattnForward;
  const { element, drawn, slider, lines, signed, start } = window.crossattnWidgets;
  const CAPITAL = 100000, ROUNDING = 1e-12, BARS_A_YEAR = 8766;

  // Value that is left after trading to `targets` of itself, costs included (Newton's method).
  function valueAfterCosts(value, targets, held, active, rate) {
    let after = value;
    for (let k = 0; k < 100; k++) {
      let excess = after - value, slope = 1;
      targets.forEach((target, j) => {
        if (!active[j]) return;
        const notional = target * after - held[j];
        excess += rate * Math.abs(notional);
        if (notional !== 0) slope += target * rate * Math.sign(notional);
      });
      const step = excess / slope;
      after -= step;
      if (after <= 0 || slope <= 0) return 0;
      if (Math.abs(step) <= 2e-16 * value) break;
    }
    return after;
  }

  // Equity after every row's trades, the turnover and what was paid: as crossattn.backtest_weights.
  function account(prices, weights, { fee, every, lag, band }) {
    let cash = CAPITAL;
    let shares = prices[0].map(() => 0);
    const equity = [], turnover = [];
    let paid = 0;
    prices.forEach((row, t) => {
      let value = cash + sum(row.map((price, j) => shares[j] * price));
      const decided = t - lag;
      turnover.push(0);
      if (decided >= 0 && decided % every === 0 && value > 0) {
        const targets = weights[decided];
        const held = row.map((price, j) => shares[j] * price);
        const distance = targets.map((target, j) => Math.abs(target * value - held[j]));
        const active = distance.map((d) => d >= band * value);
        if (distance.some((d, j) => active[j] && d > ROUNDING * value)) {
          const base = valueAfterCosts(value, targets, held, active, fee);
          let cost = 0, traded = 0;
          shares = shares.map((have, j) => {
            const notional = targets[j] * base - held[j];
            if (!active[j] || Math.abs(notional) <= ROUNDING * value) return have;
            cash -= notional;
            cost += fee * Math.abs(notional);
            traded += Math.abs(notional);
            return have + notional / row[j];
          });
          cash -= cost;
          paid += cost;
          turnover[t] = traded / value;
          value = cash + sum(row.map((price, j) => shares[j] * price));
        }
      }
      equity.push(value);
    });
    return { equity, turnover, paid };
  }

  // Prices and weights of the market whose leader changes: forecasts over usual moves, gross 1.
  function strategy(source) {
    const { unpack } = window.crossattnForward, n = source.symbols.length;
    const market = { ...source, returns: unpack(source.returns, n), logVolume: unpack(source.logVolume, n) };
    const series = knownSeries(market);
    const rows = range(market.returns.length - market.before).map((k) => k + market.before);
    const level = market.symbols.map(() => 0);
    const prices = rows.map((t) => level.map((_, j) => {
      level[j] += t === rows[0] ? 0 : market.returns[t][j];
      return 100 * Math.exp(level[j]);
    }));
    const weights = rows.map((t) => {
      const sizes = forward(market, t, { series }).map(({ forecast }, i) => forecast / market.model.scale[i]);
      const gross = sum(sizes.map(Math.abs)) || 1;
      return sizes.map((size) => size / gross);
    });
    return { prices, weights };
  }

  const grouped = (x) => Math.round(x).toLocaleString("en");

  function drawdown(equity) {
    let peak = CAPITAL;
    return equity.map((value) => {
      peak = Math.max(peak, value);
      return value / peak - 1;
    });
  }

  function run(root) {
    const { prices, weights } = strategy(window.crossattnMarkets.switching);
    const equal = weights.map((row) => row.map(() => 1 / row.length));
    const state = { fee: 1e-4, every: 1, lag: 0, band: 0 };
    const knobs = element(root, "div", "", { class: "ca-controls" });
    const knob = (name, options, key, value) => slider(knobs, { name, ...options, change: (x) => { state[key] = value(x); show(); } });
    knob("fee", { min: 0, max: 30, step: 0.5, value: 1, show: (x) => `${x} bp of what is traded` }, "fee", (x) => x / 1e4);
    knob("rebalance every", { min: 1, max: 48, step: 1, value: 1, show: (x) => (x > 1 ? `${x} bars` : "bar") }, "every", (x) => x);
    knob("trade", { min: 0, max: 6, step: 1, value: 0, show: (x) => ["at once", "one bar later"][x] ?? `${x} bars later` }, "lag", (x) => x);
    knob("leave alone below", { min: 0, max: 0.5, step: 0.01, value: 0, show: (x) => `${(100 * x).toFixed(0)} % of the account` }, "band", (x) => x);
    const chart = (title) => {
      element(root, "p", title);
      return drawn(root, "svg", { class: "ca-wide" });
    };
    const wealth = chart("Equity (orange), without costs (grey, dashed), equal weights (blue):");
    const depth = chart("Drawdown (orange) and that of equal weights (blue):");
    const said = element(root, "p", "", { class: "ca-forecast", "aria-live": "polite" });

    function show() {
      const net = account(prices, weights, state);
      const gross = account(prices, weights, { ...state, fee: 0 });
      const plain = account(prices, equal, { ...state, lag: 0, band: 0 });
      lines(wealth, [{ values: plain.equity, colour: "#0072b2" }, { values: gross.equity, colour: "#8a8f98", dash: "4 3" },
        { values: net.equity, colour: "#d55e00", width: 2.5 }], { height: 150, label: "equity of the account, 300 bars" });
      lines(depth, [{ values: drawdown(plain.equity), colour: "#0072b2" }, { values: drawdown(net.equity), colour: "#d55e00", width: 2 }],
        { height: 70, ceiling: 0, label: "drawdown of the account" });
      const returns = net.equity.map((v, t) => v / (t ? net.equity[t - 1] : CAPITAL) - 1);
      const centre = sum(returns) / returns.length;
      const spread = Math.sqrt(sum(returns.map((r) => (r - centre) ** 2)) / (returns.length - 1));
      const traded = sum(net.turnover);
      const free = Math.log(gross.equity.at(-1) / CAPITAL) / (sum(gross.turnover) || Infinity);
      said.textContent = `Net ${signed(100 * (net.equity.at(-1) / CAPITAL - 1), 2)} %, without costs ${signed(100 * (gross.equity.at(-1) / CAPITAL - 1), 2)} %. `
        + `Paid ${grouped(net.paid)} of ${grouped(CAPITAL)}; turnover ${(traded / prices.length).toFixed(2)} of the account a bar; Sharpe ratio, annual, ${signed(spread ? (centre / spread) * Math.sqrt(BARS_A_YEAR) : 0, 1)}. `
        + `A fee of about ${(1e4 * free).toFixed(1)} bp would eat all of it.`;
    }
    show();
    root.crossattn = { state, account, prices, weights, show };
  }

  start("costs", run);
})();
