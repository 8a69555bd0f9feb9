// The forecaster's forward pass: bars to tokens, scores, attention, contributions, forecasts.
// The same arithmetic as crossattn/tokens and crossattn/attention/content.py; no page is needed.
(() => {
  "use strict";
  const LIMIT = 8; // standard deviations at which volumes and content are cut
  const OWN_LIMIT = 4;
  const MOVE_BARS = [2, 3, 4, 6, 8, 12, 16, 24];
  const RISE_BARS = [1, 6, 24];
  const RECENT_BARS = [6, 24];
  // Between which sizes the answer to a large move grows from none to all.
  const EVENTS = { "1sd": [1, 2], "2sd": [2, 3], "1vol": [1, 1.85], "2vol": [1.85, 2.5] };

  const range = (size) => Array.from({ length: size }, (_, k) => k);
  const clip = (x, limit) => Math.min(Math.max(x, -limit), limit);
  const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);
  const sum = (values) => values.reduce((total, x) => total + x, 0);

  // Rows of 32-bit floats, as the build packs them: (T, N).
  function unpack(text, nAssets) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const flat = new Float32Array(bytes.buffer);
    return range(flat.length / nAssets).map((t) =>
      Array.from(flat.subarray(t * nAssets, (t + 1) * nAssets)));
  }

  // What is known at each bar, (T, N) each: standardised relative volume, distances from means, and
  // recent volatility.
  function knownSeries(market) {
    const { model, start, returns, logVolume } = market;
    let mean = start.meanLogVolume.slice();
    const volume = logVolume.map((row) => {
      const relative = row.map((x, j) => Math.fround(x - mean[j]));
      mean = row.map((x, j) => start.volumeDecay * mean[j] + (1 - start.volumeDecay) * x);
      return relative.map((x, j) =>
        clip((x - model.volumeCentre[j]) / model.volumeSpread[j], LIMIT));
    });
    const distance = {};
    for (const [decay, first] of Object.entries(start.distance)) {
      let held = first.slice();
      distance[decay] = returns.map((row) => {
        held = row.map((r, j) => Number(decay) * (held[j] + r));
        return held;
      });
    }
    let variance = start.variance;
    const volatility = returns.map((row) => {
      const decay = start.varianceDecay;
      variance = row.map((r, j) => decay * variance[j] + (1 - decay) * r * r);
      return variance.map(Math.sqrt);
    });
    return { volume, distance, volatility };
  }

  // What may make a source loud at bar t: volume, size, moves over several spans. (C,)
  function contentOf(market, series, t, j) {
    const scaled = (k) => market.returns[t - k][j] / market.model.scale[j];
    const move = (bars) => sum(range(bars).map(scaled)) / Math.sqrt(bars);
    const noRange = 0; // these markets are told without highs and lows
    const raw = [series.volume[t][j], noRange, Math.abs(scaled(0))];
    for (const bars of MOVE_BARS) raw.push(Math.abs(move(bars)));
    for (const bars of RISE_BARS) raw.push(move(bars));
    for (const bars of RECENT_BARS)
      raw.push(sum(range(bars).map((k) => series.volume[t - k][j])) / bars, noRange);
    const { centre, spread } = market.model;
    return raw.map((x, c) => clip((x - centre[c]) / spread[c], LIMIT));
  }

  // The value of one token of the static part: a channel of a source, `lag` bars back (1 newest).
  function tokenValue(market, series, t, name, source, lag, decay) {
    const r = market.returns[t - lag + 1][source];
    const volume = series.volume[t - lag + 1][source];
    const values = {
      return: () => r,
      fall: () => Math.min(r, 0),
      signed_root: () => Math.sign(r) * Math.sqrt(Math.abs(r)),
      size: () => Math.abs(r),
      gated_return: () => (r * 2) / (1 + Math.exp(-volume)),
      relative_volume: () => volume,
      distance: () => series.distance[decay][t - lag + 1][source],
    };
    if (name in values) return Math.fround(values[name]());
    const [direction, scale] = name.split("_"), [low, high] = EVENTS[scale];
    const unit = scale.endsWith("sd") ? market.model.usual : series.volatility[t - lag + 1];
    const share = Math.min(Math.max((Math.abs(r) / unit[source] - low) / (high - low), 0), 1);
    return Math.fround(r > 0 === (direction === "rise") ? Math.sign(r) * share : 0);
  }

  // Every step of the forecasts made at bar t. Options: temperature divides the scores, sources in
  // `muted` and lags above `maxLag` are masked. Grids are [source][lag], newest lag first.
  function forward(market, t, { temperature = 1, maxLag = Infinity, muted = new Set(),
    series = knownSeries(market) } = {}) {
    const { model, returns } = market;
    const nLags = model.lags;
    const sources = range(model.scale.length);
    const lags = range(nLags);
    const open = (j, k) => !muted.has(j) && k < maxLag;
    const heads = range(model.heads.gain.length).map((m) => {
      const take = (name) => model.heads[name][m];
      const content = sources.map((j) =>
        lags.map((k) => contentOf(market, series, t - k, j))); // (N, L, C)
      const scores = sources.map((j) => lags.map((k) =>
        dot(take("token_weight"), content[j][k]) + dot(take("source_weight"), content[j][0])
        + take("lag_bias")[k]));
      return { scores, own: clip(take("own_bias"), OWN_LIMIT), gain: take("gain"),
        sourceScale: take("source_scale").map(Math.exp) };
    });
    return sources.map((i) => {
      const grid = (cell) => sources.map((j) => lags.map((k) => cell(j, k)));
      const parts = heads.map(({ scores, own, gain, sourceScale }) => {
        const shown = grid((j, k) => (scores[j][k] + (j === i ? own : 0)) / temperature);
        const top = Math.max(...grid((j, k) => (open(j, k) ? shown[j][k] : -Infinity)).flat());
        const mass = grid((j, k) => (open(j, k) ? Math.exp(shown[j][k] - top) : 0));
        const total = sum(mass.flat()) || 1;
        const attention = mass.map((row) => row.map((x) => x / total));
        const gains = sources.map((j) => (j === i ? 0 : gain[i] * sourceScale[j]));
        return { scores: shown, attention, gains };
      });
      const mean = (cell) => grid((j, k) => sum(parts.map((p) => cell(p, j, k))) / parts.length);
      const scores = mean((p, j, k) => p.scores[j][k]);
      const attention = mean((p, j, k) => p.attention[j][k]);
      const coefficient = mean((p, j, k) =>
        (model.contentWeight * p.gains[j] * p.attention[j][k] * model.scale[i]) / model.scale[j]);
      const contribution = grid((j, k) => coefficient[j][k] * returns[t - k][j]);
      let intercept = model.drift[i] + model.offset[i];
      for (const [name, j, lag, decay, beta, centre] of model.tokens[i]) {
        intercept += beta * centre;
        if (!open(j, lag - 1)) continue;
        if (name === "return") coefficient[j][lag - 1] += beta;
        const value = tokenValue(market, series, t, name, j, lag, decay);
        contribution[j][lag - 1] += beta * (value - centre);
      }
      const pull = sources.map((j) => (j === i || muted.has(j) ? -1
        : sum(coefficient[j].map((b) => Math.abs(b) * model.scale[j]))));
      return { scores, attention, coefficient, contribution, intercept,
        gains: sources.map((j) => sum(parts.map((p) => p.gains[j])) / parts.length),
        forecast: intercept + sum(contribution.flat()),
        leader: pull.indexOf(Math.max(...pull)) };
    });
  }

  window.crossattnForward = { forward, knownSeries, tokenValue, unpack, range, sum };
})();
