// Find the leak: change the future, and see which number of the past moves.
(() => {
  "use strict";
  const { COLOURS, element, drawn, draggable, lines, signed, button, start } = window.crossattnWidgets;
  const WIDTH = 5, HALF = 2, HALF_LIFE = 4;
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const between = (values, first, last) => values.slice(Math.max(first, 0), last + 1);
  const FEATURES = [
    ["mean of the last 5", (r) => r.map((_, t) => mean(between(r, t - WIDTH + 1, t)))],
    ["exponential mean, half-life 4", (r) => {
      const decay = 0.5 ** (1 / HALF_LIFE);
      let total = 0, weight = 0;
      return r.map((x) => {
        [total, weight] = [decay * total + x, decay * weight + 1];
        return total / weight;
      });
    }],
    ["mean of 5 around the bar", (r) => r.map((_, t) => mean(between(r, t - HALF, t + HALF)))],
    ["return less the mean of all", (r) => r.map((x) => x - mean(r))],
    ["return over the largest so far", (r) => r.map((x, t) => x / Math.max(...between(r, 0, t).map(Math.abs)))],
    ["rank among all bars", (r) => r.map((x) => r.filter((y) => y <= x).length / r.length)],
  ];

  // By feature: the number of cells before `changed` that differ between two histories.
  function audit(before, after, changed) {
    return FEATURES.map(([name, feature]) => {
      const [old, now] = [feature(before), feature(after)];
      const moved = old.map((x, t) => (t < changed && Math.abs(now[t] - x) > 1e-12 ? t : -1)).filter((t) => t >= 0);
      return { name, values: now, moved };
    });
  }

  // Returns in percent, the same in every visit: a small linear congruential generator.
  function bars(n) {
    let seed = 7;
    const draw = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648; };
    return Array.from({ length: n }, () => Math.round(100 * (draw() + draw() + draw() - 1.5)) / 100);
  }

  function run(root) {
    const original = bars(40);
    const state = { returns: original.slice(), changed: 26 };
    element(root, "p", "Drag a bar, or use the arrow keys: left and right choose one, up and down change it. Everything to the left of it is the past of that moment: no feature may change there.");
    const svg = drawn(root, "svg", { viewBox: "0 0 640 110", class: "ca-wide ca-bars", preserveAspectRatio: "none",
      role: "group", "aria-label": "returns of forty bars" });
    drawn(svg, "path", { d: "M0 55H640", stroke: "currentColor", "stroke-opacity": 0.4 });
    const columns = original.map((_, t) => {
      const column = drawn(svg, "rect", { x: 16 * t + 1, width: 14, tabindex: t === state.changed ? 0 : -1, role: "spinbutton", class: "ca-dot" });
      draggable(column, (steps) => put(t, state.returns[t] + 0.1 * steps));
      column.addEventListener("keydown", (event) => {
        const step = { ArrowUp: 0.1, ArrowDown: -0.1 }[event.key];
        const next = columns[t + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? NaN)];
        if (step) put(t, state.returns[t] + step);
        else if (next) {
          columns.forEach((other) => other.setAttribute("tabindex", other === next ? 0 : -1));
          next.focus();
        } else return;
        event.preventDefault();
      });
      return column;
    });
    const list = element(root, "div", "", { class: "ca-leaks" });
    const rows = FEATURES.map(([name]) => {
      const row = element(list, "div");
      const title = element(row, "p");
      element(title, "strong", name);
      const verdict = element(title, "span");
      return { verdict, svg: drawn(row, "svg", { class: "ca-wide" }) };
    });
    button(element(root, "div", "", { class: "ca-controls" }), "reset", () => {
      Object.assign(state, { returns: original.slice() });
      show();
    });

    function put(t, value) {
      if (t !== state.changed) state.returns = original.slice();
      state.changed = t;
      state.returns = state.returns.map((x, k) => (k === t ? Math.round(100 * Math.min(Math.max(value, -3), 3)) / 100 : x));
      show();
    }

    function show() {
      const { returns, changed } = state;
      returns.forEach((x, t) => {
        const tall = Math.max(2, (50 * Math.min(Math.abs(x), 3)) / 3);
        const looks = { y: x > 0 ? 55 - tall : 55, height: tall,
          fill: t === changed ? "#d55e00" : x < 0 ? "#8a8f98" : COLOURS[0],
          "aria-valuenow": x, "aria-label": `return of bar ${t + 1}`, "aria-valuetext": `${signed(x, 2)} percent` };
        Object.entries(looks).forEach(([key, v]) => columns[t].setAttribute(key, v));
      });
      const untouched = returns.every((x, t) => x === original[t]);
      audit(original, returns, changed).forEach(({ name, values, moved }, k) => {
        const past = values.map((v, t) => (t < changed ? v : null));
        const future = values.map((v, t) => (t >= changed - 1 ? v : null));
        const leak = values.map((v, t) => (moved.includes(t) ? v : null));
        lines(rows[k].svg, [{ values: past, colour: COLOURS[0] }, { values: future, colour: "#8a8f98", dash: "4 3" },
          { values: leak, colour: "#d55e00", width: 4 }],
        { height: 56, mark: changed, label: `${name} at every bar` });
        rows[k].verdict.textContent = untouched ? ": change a bar to test it."
          : moved.length ? `: leaks. ${moved.length} number${moved.length > 1 ? "s" : ""} of the past moved, the first at bar ${moved[0] + 1}.`
            : ": the past stands still.";
        rows[k].verdict.className = moved.length ? "ca-leak" : "";
      });
    }
    show();
    root.crossattn = { state, audit, put, FEATURES: FEATURES.map(([name]) => name) };
  }

  start("leaks", run);
})();
