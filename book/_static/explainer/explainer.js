// A trained forecaster plays a market: every step of the forecast, token by token, to be touched.
(() => {
  "use strict";
  const { forward, knownSeries, unpack, range, sum } = window.crossattnForward;
  const { COLOURS, element, sequential, diverging, percent, basisPoints, signed, grid, button,
    slider, lines, start } = window.crossattnWidgets;
  const SHOWN = 60; // bars in the charts
  const VOLUME_STEP = 0.1, RETURN_STEP = 0.1; // of a unit of log volume, of the usual return

  const whole = (x) => signed(x, 0).replace("+", "");
  const short = (x) => signed(x, 1).replace(/^\+?(\u2212?)0?\./, "$1.").replace("+", "");

  function load(source) {
    const n = source.symbols.length;
    const market = { ...source, returns: unpack(source.returns, n),
      logVolume: unpack(source.logVolume, n), oracle: unpack(source.oracle, n) };
    return market;
  }

  function run(root) {
    const markets = window.crossattnMarkets;
    const compact = "compact" in root.dataset;
    const state = { temperature: 1, maxLag: Infinity, muted: new Set(), timer: null,
      speed: matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : 4 };
    const view = element(root, "div");
    const tabs = element(view, "div", "", { class: "ca-tabs", role: "group", "aria-label": "market" });
    const stage = element(view, "div");
    const tabOf = {};
    for (const [key, source] of Object.entries(markets))
      tabOf[key] = button(tabs, source.title, () => open(key, load(source)));

    let parts = null; // the widgets of the open market
    let own = null; // the reader's bars

    function open(key, market) {
      pause();
      Object.entries(tabOf).forEach(([k, tab]) => tab.setAttribute("aria-pressed", k === key));
      Object.assign(state, { key, market, t: market.before + 40, follower: 1,
        chosen: null, temperature: 1, maxLag: Infinity, muted: new Set() });
      changed();
      stage.replaceChildren();
      parts = build(stage, market);
      show();
    }

    // Bars or options changed: what was computed before does not hold any more.
    function changed() {
      state.series = knownSeries(state.market);
      state.known = new Map();
      state.right = new Map();
    }

    function answers(t) {
      if (!state.known.has(t)) state.known.set(t, forward(state.market, t, state));
      return state.known.get(t);
    }

    function build(parent, market) {
      const { symbols, model } = market;
      const lags = range(model.lags).map((k) => `${k + 1}`);
      const made = {};
      made.truth = element(parent, "p", "", { class: "ca-truth" });
      made.prices = element(element(parent, "div", "", { class: "ca-chart" }), "div")
        .appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
      const transport = element(parent, "div", "", { class: "ca-controls" });
      button(transport, "\u25c0 step", () => step(-1));
      made.play = button(transport, "\u25b6 play", () => (state.timer ? pause() : play()));
      button(transport, "step \u25b6", () => step(1));
      made.bar = slider(transport, { name: "bar", min: market.before, step: 1,
        max: market.returns.length - 2, value: state.t,
        show: (t) => `${t - market.before + 1} of ${market.returns.length - 1 - market.before}`,
        change: (t) => { state.t = t; show(); } });
      made.speed = slider(transport, { name: "speed", min: 1, max: 30, step: 1, value: state.speed,
        show: (x) => `${x} bars a second`, change: (x) => { state.speed = x; if (state.timer) play(); } });
      const whose = element(parent, "div", "", { class: "ca-tabs", role: "group",
        "aria-label": "follower" });
      element(whose, "span", "Follower:");
      made.followers = symbols.map((name, i) => button(whose, name, () => {
        state.follower = i;
        state.right = new Map();
        show();
      }));
      const grids = element(parent, "div", "", { class: "ca-grids" });
      const common = { rows: symbols, columns: lags, choose: (j, k) => choose(j, k) };
      const usual = (j) => model.scale[j];
      made.returns = grid(grids, { ...common, title: "1. Return", note: "of each source, by lag: drag, or + and \u2212",
        colour: (x, j) => diverging(x / (2.5 * usual(j))), show: (x) => short(100 * x),
        speak: percent, edit: (j, k, steps) => edit("returns", j, k, steps * RETURN_STEP * usual(j)) });
      made.volume = grid(grids, { ...common, title: "2. Relative volume", note: "in deviations: drag, or + and \u2212",
        colour: (x) => diverging(x / 4), show: short, speak: (x) => `${signed(x, 2)} deviations`,
        edit: (j, k, steps) => edit("logVolume", j, k, steps * VOLUME_STEP) });
      made.scores = grid(grids, { ...common, title: "3. Score", note: "query of the follower times key of the token",
        colour: (x) => diverging(x / 20), show: (x) => whole(x), speak: (x) => signed(x, 2) });
      made.attention = grid(grids, { ...common, title: "4. Attention", note: "softmax: all cells sum to 100",
        colour: (x) => sequential(x), show: (x) => (100 * x).toFixed(0), speak: (x) => `${(100 * x).toFixed(1)} percent` });
      made.coefficient = grid(grids, { ...common, title: "5. Coefficient", note: "percent of a source\u2019s return that goes on",
        colour: (x, j, k) => diverging((x * usual(j)) / (0.3 * usual(state.follower))),
        show: (x) => whole(100 * x), speak: (x) => `${signed(100 * x, 1)} percent` });
      made.contribution = grid(grids, { ...common, title: "6. Contribution", note: "basis points: coefficient times return",
        colour: (x) => diverging(x / (0.3 * usual(state.follower))), show: (x) => whole(1e4 * x),
        speak: basisPoints });
      made.formula = element(parent, "p", "", { class: "ca-formula", "aria-live": "polite" });
      made.forecast = element(parent, "p", "", { class: "ca-forecast" });
      element(parent, "p", market.own ? "Forecasts of the bars shown:"
        : "Forecasts of the bars shown (orange) and the true expectation (blue):");
      made.history = element(element(parent, "div", "", { class: "ca-chart" }), "div")
        .appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
      const knobs = element(parent, "div", "", { class: "ca-controls" });
      made.temperature = slider(knobs, { name: "temperature", min: -1, max: 1, step: 0.05, value: 0,
        show: (x) => (10 ** x).toFixed(2), change: (x) => option({ temperature: 10 ** x }) });
      made.maxLag = slider(knobs, { name: "oldest lag", min: 1, max: model.lags, step: 1,
        value: model.lags, show: (x) => `${x}`, change: (x) => option({ maxLag: x }) });
      made.muted = symbols.map((name, j) => {
        const label = element(knobs, "label", "", { class: "ca-check" });
        const box = element(label, "input", "", { type: "checkbox" });
        box.checked = true;
        label.append(` ${name} may lead`);
        box.addEventListener("change", () => {
          const muted = new Set(state.muted);
          if (box.checked) muted.delete(j); else muted.add(j);
          option({ muted });
        });
        return box;
      });
      button(knobs, "reset", () => open(state.key, state.key === "own" ? { ...own } : load(markets[state.key])));
      made.verdict = element(parent, "p", verdictOf(market), { class: "ca-verdict" });
      return made;
    }

    function verdictOf(market) {
      const mix = Object.entries(market.model.mix).filter(([, w]) => w >= 0.005)
        .map(([name, w]) => `${w.toFixed(2)} ${name}`).join(" + ") || "nothing";
      if (market.own) return "No test is made here: `crossattn leadlag` makes it.";
      return `The mix that validation chose: ${mix}. The test on bars never seen: ${market.verdict}.`;
    }

    function option(changes) {
      Object.assign(state, changes);
      state.known = new Map();
      state.right = new Map();
      show();
    }

    function edit(which, j, k, change) {
      const { market, t } = state;
      pause();
      const rows = market[which].map((row) => row);
      rows[t - k] = rows[t - k].map((x, m) => (m === j ? x + change : x));
      market[which] = rows;
      state.chosen = [j, k];
      changed();
      show();
    }

    function choose(j, k) {
      if (state.chosen?.[0] === j && state.chosen?.[1] === k) return;
      state.chosen = [j, k];
      show();
    }

    function step(by) {
      const { market } = state;
      state.t = Math.min(Math.max(state.t + by, market.before), market.returns.length - 2);
      show();
      if (state.t === market.returns.length - 2) pause();
    }

    function play() {
      clearInterval(state.timer);
      state.timer = setInterval(() => step(1), 1000 / state.speed);
      parts.play.textContent = "\u275a\u275a pause";
    }

    function pause() {
      clearInterval(state.timer);
      state.timer = null;
      if (parts) parts.play.textContent = "\u25b6 play";
    }

    // Tokens that truly lead the follower's next bar.
    function trueTokens(t, i) {
      const { market } = state;
      const led = market.edges.filter(([, follower]) => follower === i);
      const now = market.moving ? led.filter(([leader]) => leader === market.leaders[t][i]) : led;
      return now.map(([leader, , lag]) => [leader, lag]);
    }

    function truthOf(t, i, answer) {
      const { market } = state, { symbols } = market;
      if (market.own) return "Your own bars: what leads them, if anything does, is not known. "
        + "The weights are those of the market \u201cThe leader changes\u201d: a demonstration.";
      const tokens = trueTokens(t, i);
      if (!tokens.length)
        return `Truth: nobody leads ${symbols[i]}, now or ever. Attention points all the same.`;
      const text = tokens.map(([j, lag]) => `${symbols[j]} at lag ${lag}`).join(" and ");
      if (!market.moving) return `Truth: ${symbols[i]} follows ${text}, always (ringed).`;
      state.right.set(t, tokens[0][0] === answer.leader);
      const right = sum([...state.right.values()].map(Number));
      return `Truth: ${symbols[i]} follows ${text} now (ringed). The forecaster follows `
        + `${symbols[answer.leader]}: right in ${right} of ${state.right.size} bars shown.`;
    }

    function formulaOf(i, answer) {
      const { market, chosen, t } = state, { symbols, model } = market;
      if (!chosen) return "Choose a cell: its formula and numbers appear here.";
      const [j, k] = chosen;
      const token = `${symbols[j]}, lag ${k + 1}`;
      if (state.muted.has(j) || k >= state.maxLag) return `${token} is masked: attention 0, contribution 0.`;
      const fixed = sum(model.tokens[i].filter(([name, source, lag]) =>
        name === "return" && source === j && lag === k + 1).map((token) => token[4]));
      const returned = percent(market.returns[t - k][j]);
      const share = answer.attention[j][k];
      const text = `${symbols[i]} \u2190 ${token}: attention = exp(${signed(answer.scores[j][k], 2)}) / sum of exp = `
        + `${share.toFixed(3)}. Coefficient = mix ${model.contentWeight.toFixed(2)} \u00d7 gain `
        + `${signed(answer.gains[j], 2)} \u00d7 attention \u00d7 ratio of volatilities `
        + `${(model.scale[i] / model.scale[j]).toFixed(2)}`
        + `${fixed ? ` + fixed ${signed(fixed, 3)}` : ""} = ${signed(answer.coefficient[j][k], 4)}. `
        + `Contribution = coefficient \u00d7 return ${returned} = ${basisPoints(answer.contribution[j][k])}.`;
      return j === i ? `${text} A follower\u2019s own tokens take attention and carry no value.` : text;
    }

    function show() {
      const { market, t, follower: i, chosen } = state, { symbols } = market;
      const answer = answers(t)[i];
      const marks = new Set(market.own ? [] : trueTokens(t, i).map(([j, lag]) => `${j},${lag - 1}`));
      const closed = (j, k) => state.muted.has(j) || k >= state.maxLag;
      const back = (rows) => symbols.map((_, j) => range(market.model.lags).map((k) => rows[t - k][j]));
      const looks = { marks, chosen };
      parts.truth.textContent = truthOf(t, i, answer);
      parts.followers.forEach((tab, k) => tab.setAttribute("aria-pressed", k === i));
      parts.bar.set(t);
      parts.returns.draw(back(market.returns), looks);
      parts.volume.draw(back(state.series.volume), looks);
      for (const name of ["scores", "attention", "coefficient", "contribution"])
        parts[name].draw(answer[name], { ...looks, closed });
      parts.formula.textContent = formulaOf(i, answer);
      const next = market.returns[t + 1]?.[i];
      parts.forecast.textContent = `Forecast for ${symbols[i]}\u2019s next bar: ${basisPoints(answer.intercept)} intercept `
        + `${basisPoints(answer.forecast - answer.intercept)} contributions = ${basisPoints(answer.forecast)}.`
        + (market.own ? "" : ` The true expectation was ${basisPoints(market.oracle[t][i])}.`)
        + ` The bar that came: ${basisPoints(next)}.`;
      charts(t, i);
    }

    function charts(t, i) {
      const { market } = state, { symbols } = market;
      const first = Math.max(market.before, t - SHOWN + 1);
      const rows = range(t - first + 1).map((k) => first + k);
      const level = symbols.map(() => 0);
      const paths = symbols.map(() => []);
      for (const row of rows) symbols.forEach((_, j) => {
        level[j] += market.returns[row][j] / market.model.scale[j];
        paths[j].push(level[j]);
      });
      lines(parts.prices, symbols.map((name, j) => ({ values: paths[j], label: name,
        colour: COLOURS[j % COLOURS.length], width: j === i ? 3 : 1.3 })),
      { label: `Log prices of ${symbols.join(", ")}, last ${rows.length} bars, in usual returns` });
      const forecasts = rows.map((row) => (answers(row)[i].forecast));
      const series = [{ values: forecasts, colour: "#d55e00", width: 2 }];
      if (!market.own) series.unshift({ values: rows.map((row) => market.oracle[row][i]),
        colour: "#0072b2", width: 1.3 });
      const top = 0.4 * market.model.scale[i];
      lines(parts.history, series, { height: 90, floor: -top, ceiling: top,
        label: `Forecast of ${symbols[i]} (orange) and true expectation (blue) in the bars shown` });
    }

    if (!compact) window.crossattnOwnBars?.(element(view, "div"), (market) => {
      own = market;
      tabOf.own ??= button(tabs, market.title, () => open("own", { ...own }));
      open("own", { ...own });
    });
    const first = Object.keys(markets)[1];
    open(first, load(markets[first]));
    root.crossattn = { state, open, load, show, answers }; // for tests
  }

  start("forecaster", run);
})();
