// Queries, keys and values by hand: one query, four keys in the plane, to be dragged.
(() => {
  "use strict";
  const { COLOURS, element, drawn, sequential, signed, button, slider, start } = window.crossattnWidgets;
  const SIZE = 300, LIMIT = 3, NUDGE = 0.1;
  const NAMES = ["A", "B", "C", "D"];
  const FIRST = { query: [1.1, 1.6], keys: [[2, 1.2], [-1, 2], [-1.8, -1], [1.2, -2]], values: [1, -0.5, 0.4, -1.2],
    open: [true, true, true, true], scale: Math.SQRT2, selected: null };

  // Scores, attention and output of one query; masked keys get no attention.
  function attend({ query, keys, values, open, scale }) {
    const scores = keys.map((key) => (query[0] * key[0] + query[1] * key[1]) / scale);
    const top = Math.max(...scores.filter((_, k) => open[k]));
    const mass = scores.map((score, k) => (open[k] ? Math.exp(score - top) : 0));
    const total = mass.reduce((a, b) => a + b, 0) || 1;
    const attention = mass.map((x) => x / total);
    return { scores, attention, output: attention.reduce((sum, a, k) => sum + a * values[k], 0) };
  }

  function run(root) {
    const copy = () => structuredClone(FIRST);
    const state = copy();
    const box = element(root, "div", "", { class: "ca-side" });
    const svg = drawn(box, "svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "ca-plane",
      role: "group", "aria-label": "query and keys in the plane: drag the points, or use the arrow keys" });
    const side = element(box, "div");
    const place = (v) => (SIZE / 2) * (1 + v / LIMIT);
    drawn(svg, "path", { d: `M0 ${SIZE / 2}H${SIZE}M${SIZE / 2} 0V${SIZE}`, stroke: "currentColor",
      "stroke-opacity": 0.3 });
    const points = [...NAMES.map((name, k) => [k, name, "#e69f00"]), ["query", "q", COLOURS[0]]]
      .map(([which, label, colour]) => {
        const line = drawn(svg, "line", { x1: SIZE / 2, y1: SIZE / 2, stroke: colour, "stroke-width": 2.5 });
        const dot = drawn(svg, "circle", { r: 9, fill: colour, tabindex: 0, role: "button", class: "ca-dot" });
        const text = drawn(svg, "text", { "font-size": 14, "font-weight": 700, fill: "currentColor" }, label);
        const vector = () => (which === "query" ? state.query : state.keys[which]);
        const put = (x, y) => {
          [x, y].forEach((v, axis) => {
            vector()[axis] = Math.round(Math.min(Math.max(v, -LIMIT), LIMIT) * 100) / 100;
          });
          show();
        };
        dot.style.touchAction = "none";
        dot.addEventListener("pointerdown", (down) => dot.setPointerCapture(down.pointerId));
        dot.addEventListener("pointermove", (event) => {
          if (!dot.hasPointerCapture(event.pointerId)) return;
          const frame = svg.getBoundingClientRect();
          const at = (x, from, size) => (2 * (x - from) / size - 1) * LIMIT;
          put(at(event.clientX, frame.left, frame.width), -at(event.clientY, frame.top, frame.height));
        });
        dot.addEventListener("keydown", (event) => {
          const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
          const move = moves[event.key];
          if (!move) return;
          event.preventDefault();
          put(vector()[0] + NUDGE * move[0], vector()[1] + NUDGE * move[1]);
        });
        return { line, dot, text, vector, label };
      });

    const table = element(side, "table", "", { class: "ca-numbers", "aria-label": "keys, scores, attention and values" });
    const head = element(element(table, "thead"), "tr");
    ["key", "q \u00b7 k", "score", "attention", "value", "product", "read"].forEach((name) =>
      element(head, "th", name, { scope: "col" }));
    const body = element(table, "tbody");
    const rows = NAMES.map((name, k) => {
      const row = element(body, "tr");
      element(row, "th", name, { scope: "row" });
      const cells = ["dot", "score", "attention"].map(() => element(row, "td"));
      const input = element(element(row, "td"), "input", "", { type: "number", step: 0.1, min: -9, max: 9,
        "aria-label": `value of ${name}` });
      input.addEventListener("input", () => { state.values[k] = Number(input.value) || 0; show(); });
      const product = element(row, "td");
      const check = element(element(row, "td"), "input", "", { type: "checkbox", "aria-label": `${name} may be read` });
      check.addEventListener("change", () => { state.open[k] = check.checked; show(); });
      return { cells, input, product, check };
    });
    const said = element(side, "p", "", { class: "ca-formula", "aria-live": "polite" });
    const knobs = element(side, "div", "", { class: "ca-controls" });
    const scale = slider(knobs, { name: "divide scores by", min: 0.2, max: 5, step: 0.01, value: FIRST.scale,
      show: (x) => x.toFixed(2), change: (x) => { state.scale = x; show(); } });
    button(knobs, "reset", () => {
      Object.assign(state, copy());
      scale.set(FIRST.scale);
      show();
    });

    function show() {
      const { scores, attention, output } = attend(state);
      points.forEach(({ line, dot, text, vector, label }, index) => {
        const [x, y] = [place(vector()[0]), place(-vector()[1])];
        Object.entries({ x2: x, y2: y }).forEach(([key, v]) => line.setAttribute(key, v));
        Object.entries({ cx: x, cy: y }).forEach(([key, v]) => dot.setAttribute(key, v));
        if (index < NAMES.length) line.setAttribute("stroke-width", 1 + 9 * attention[index]);
        text.setAttribute("x", x + 12);
        text.setAttribute("y", y - 8);
        const name = index < NAMES.length ? `key ${label}` : "query";
        dot.setAttribute("aria-label", `${name}: ${vector().map((v) => v.toFixed(1)).join(", ")}`);
      });
      rows.forEach(({ cells, input, product, check }, k) => {
        cells[0].textContent = signed(scores[k] * state.scale, 2);
        cells[1].textContent = signed(scores[k], 2);
        cells[2].textContent = attention[k].toFixed(3);
        const rgb = sequential(attention[k]);
        cells[2].style.background = `rgb(${rgb})`;
        cells[2].style.color = attention[k] > 0.45 ? "#000" : "#fff";
        if (document.activeElement !== input) input.value = state.values[k];
        product.textContent = signed(attention[k] * state.values[k], 3);
        check.checked = state.open[k];
      });
      said.textContent = state.open.some(Boolean)
        ? `Output = sum of attention times value = ${signed(output, 3)}. The attention sums to ${attention.reduce((a, b) => a + b).toFixed(3)}.`
        : "Nothing may be read: attention and output are 0, not missing.";
    }
    show();
    root.crossattn = { state, attend, show };
  }

  start("qkv", run);
})();
