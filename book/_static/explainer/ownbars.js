// Bars of the reader's own, from files or pasted: read, described, and shown to the model above.
// They stay in the page: nothing is sent or stored.
(() => {
  "use strict";
  const { range, sum } = window.crossattnForward;
  const { element, button } = window.crossattnWidgets;
  const MOST_ASSETS = 8, FEWEST_BARS = 60, BEFORE = 32, PLAYED = 300, MAX_LAG = 8;

  // A table of text: header and rows, by whichever of the usual separators the header holds.
  function table(text) {
    const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((line) => line.trim());
    if (lines.length < 2) throw Error("no rows: a header and a line a bar are needed");
    const mark = [";", "\t", ","].find((s) => lines[0].includes(s));
    if (!mark) throw Error(`no columns in \u201c${lines[0].slice(0, 40)}\u201d`);
    const cells = lines.map((line) => line.split(mark).map((cell) => cell.trim().replace(/^"|"$/g, "")));
    const number = (cell) => (cell ? Number(mark === ";" ? cell.replace(",", ".") : cell) : NaN);
    return { header: cells[0], rows: cells.slice(1), number };
  }

  function timeOf(cell) {
    if (/^\d{9,19}$/.test(cell)) {
      const digits = cell.length;
      return Number(cell) * (digits <= 10 ? 1000 : digits <= 13 ? 1 : digits <= 16 ? 1e-3 : 1e-6);
    }
    const iso = /[zZ]$|[+-]\d\d:?\d\d$/.test(cell) ? cell : `${cell.replace(" ", "T")}${/\d\d:\d\d/.test(cell) ? "Z" : ""}`;
    return Date.parse(iso);
  }

  // One file: a symbol's bars (time, close, volume), or a table of closes, one column a symbol.
  function read(name, text) {
    const { header, rows, number } = table(text);
    const lower = header.map((cell) => cell.toLowerCase());
    const at = (...names) => lower.findIndex((cell) => names.includes(cell));
    const timeColumn = Math.max(at("time", "timestamp", "date", "datetime", "close_time"), 0);
    const closeColumn = at("close", "adj close", "price");
    const volumeColumn = at("volume", "vol");
    const columns = closeColumn >= 0 ? [[name, closeColumn]]
      : range(header.length).filter((k) => k !== timeColumn).map((k) => [header[k], k]);
    return columns.map(([symbol, column]) => {
      const bars = new Map();
      rows.forEach((row, k) => {
        const time = timeOf(row[timeColumn] ?? ""), close = number(row[column] ?? "");
        if (!Number.isFinite(time)) throw Error(`${name}, line ${k + 2}: no time in \u201c${row[timeColumn]}\u201d`);
        const volume = closeColumn >= 0 && volumeColumn >= 0 ? number(row[volumeColumn]) : NaN;
        if (close > 0) bars.set(time, { close, volume });
      });
      if (bars.size < FEWEST_BARS) throw Error(`${symbol}: ${bars.size} bars with a price; ${FEWEST_BARS} are needed`);
      return { symbol, bars };
    });
  }

  // Shared bars in time order, as returns and log volumes.
  function aligned(assets) {
    const times = [...assets[0].bars.keys()].sort((a, b) => a - b)
      .filter((time) => assets.every(({ bars }) => bars.has(time)));
    if (times.length < FEWEST_BARS) {
      const clocks = assets.map(({ symbol, bars }) => `${symbol} ${new Date(Math.min(...bars.keys())).toISOString()}`);
      throw Error(`${times.length} bars at the same moments: the clocks do not meet (first bars: ${clocks.join(", ")})`);
    }
    const of = (time, key) => assets.map(({ bars }) => bars.get(time)[key]);
    return {
      times,
      returns: times.slice(1).map((time, k) =>
        of(time, "close").map((close, j) => Math.log(close / of(times[k], "close")[j]))),
      logVolume: times.slice(1).map((time) => of(time, "volume").map((v) => (v > 0 ? Math.log(v) : NaN))),
    };
  }

  const column = (rows, j) => rows.map((row) => row[j]);
  const mean = (values) => sum(values) / values.length;
  const deviation = (values) => {
    const centre = mean(values);
    return Math.sqrt(mean(values.map((x) => (x - centre) ** 2))) || 1;
  };

  // The best lagged correlation of each ordered pair, z = r * sqrt(n), strongest first.
  function lagged(symbols, returns) {
    const found = [];
    const standard = symbols.map((_, j) => {
      const values = column(returns, j), scale = deviation(values), centre = mean(values);
      return values.map((x) => Math.min(Math.max((x - centre) / scale, -4), 4));
    });
    for (const i of range(symbols.length)) for (const j of range(symbols.length)) {
      if (i === j) continue;
      const best = range(MAX_LAG).map((k) => k + 1).map((lag) => {
        const n = returns.length - lag;
        const products = range(n).map((t) => standard[j][t] * standard[i][t + lag]);
        return { lag, r: mean(products), z: (Math.sqrt(n) * mean(products)) / deviation(products) };
      }).sort((a, b) => Math.abs(b.z) - Math.abs(a.z))[0];
      found.push({ leader: symbols[j], follower: symbols[i], ...best });
    }
    return found.sort((a, b) => Math.abs(b.z) - Math.abs(a.z));
  }

  // A market for the player: the model of the market whose leader changes, for these assets.
  function marketOf(assets, { returns, logVolume }) {
    const symbols = assets.map(({ symbol }) => symbol);
    const taught = window.crossattnMarkets.switching.model;
    const mean1 = (values) => mean(values.flat());
    const used = returns.slice(-(BEFORE + PLAYED + 1));
    const volumes = logVolume.slice(-used.length)
      .map((row) => row.map((v) => (Number.isFinite(v) ? v : 0)));
    const first = volumes[0];
    const decay = window.crossattnMarkets.switching.start.volumeDecay;
    let held = first.slice();
    const relative = volumes.map((row) => row.map((v, j) => {
      const gap = v - held[j];
      held[j] = decay * held[j] + (1 - decay) * v;
      return gap;
    }));
    const model = {
      ...taught,
      drift: symbols.map(() => 0),
      offset: symbols.map(() => 0),
      tokens: symbols.map(() => []),
      scale: symbols.map((_, j) => Math.sqrt(mean(column(returns, j).map((r) => r * r))) || 1),
      volumeCentre: symbols.map(() => 0),
      volumeSpread: symbols.map((_, j) => deviation(column(relative, j))),
      heads: { ...taught.heads,
        gain: taught.heads.gain.map((gains) => symbols.map(() => mean1(gains))),
        source_scale: taught.heads.source_scale.map(() => symbols.map(() => 0)) },
    };
    const none = symbols.map(() => 0);
    return { title: "Your own bars", own: true, symbols, model, returns: used, logVolume: volumes,
      before: BEFORE, start: { meanLogVolume: first, volumeDecay: decay,
        distance: {}, variance: none, varianceDecay: 0 },
      oracle: used.map(() => none), leaders: [], edges: [], moving: false };
  }

  function panel(parent, open) {
    const box = element(parent, "details", "", { class: "ca-own" });
    element(box, "summary", "Your own bars");
    element(box, "p", "CSV files, one a symbol with time, close and, if known, volume; or a table "
      + "of closes, one column a symbol. They are read in this page and sent nowhere.");
    const files = element(element(box, "label", "Files: "), "input", "", { type: "file", multiple: "",
      accept: ".csv,.txt,text/csv" });
    const area = element(element(box, "label", "or paste a table of closes:", { class: "ca-paste" }),
      "textarea", "", { rows: 4, spellcheck: "false", placeholder: "time,AAA,BBB\n2024-01-01,100,50\n\u2026" });
    const controls = element(box, "div", "", { class: "ca-controls" });
    const report = element(box, "div", "", { "aria-live": "polite" });
    button(controls, "show", async () => {
      report.replaceChildren();
      try {
        const texts = await Promise.all([...files.files].map(async (file) =>
          [file.name.replace(/\.[^.]*$/, ""), await file.text()]));
        if (area.value.trim()) texts.push(["pasted", area.value]);
        if (!texts.length) throw Error("choose files or paste a table first");
        describe(texts.flatMap(([name, text]) => read(name, text)));
      } catch (error) {
        element(report, "p", `Cannot read this: ${error.message}.`, { class: "ca-truth", role: "alert" });
      }
    });

    function describe(assets) {
      if (assets.length < 2) throw Error("one symbol: two or more are needed to look across");
      const kept = assets.slice(0, MOST_ASSETS);
      const shared = aligned(kept);
      const facts = element(report, "table");
      const head = element(element(facts, "thead"), "tr");
      ["symbol", "bars", "first", "last", "at shared moments"].forEach((name) =>
        element(head, "th", name, { scope: "col" }));
      const body = element(facts, "tbody");
      const day = (time) => new Date(time).toISOString().slice(0, 16).replace("T", " ");
      for (const { symbol, bars } of kept) {
        const row = element(body, "tr"), times = [...bars.keys()];
        element(row, "th", symbol, { scope: "row" });
        const [low, high] = [times.reduce((a, b) => Math.min(a, b)), times.reduce((a, b) => Math.max(a, b))];
        for (const text of [bars.size, day(low), day(high), `${((100 * shared.times.length) / bars.size).toFixed(0)} %`])
          element(row, "td", text);
      }
      if (assets.length > kept.length)
        element(report, "p", `Only the first ${MOST_ASSETS} of ${assets.length} symbols are shown.`);
      const pairs = lagged(kept.map(({ symbol }) => symbol), shared.returns);
      const bar = 3.1 + 0.4 * Math.log10(pairs.length);
      const strong = pairs.filter(({ z }) => Math.abs(z) > bar);
      element(report, "p", `Lagged correlation, ${pairs.length} pairs at lags 1 to ${MAX_LAG}: `
        + (strong.length ? `${strong.length} beyond |z| = ${bar.toFixed(1)}, which luck rarely reaches among so many`
          : `none beyond |z| = ${bar.toFixed(1)}, which is what luck looks like among so many`) + ". The strongest:");
      const list = element(report, "ul");
      for (const { leader, follower, lag, r, z } of pairs.slice(0, 3))
        element(list, "li", `${leader} before ${follower}, lag ${lag}: correlation ${r.toFixed(3)}, z ${z.toFixed(1)}`);
      if (shared.returns.length > BEFORE + 60) open(marketOf(kept, shared));
    }
  }

  window.crossattnOwnBars = panel;
})();
