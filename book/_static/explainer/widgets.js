// What the explorers of the book share: number formats, colours, grids of numbers, line charts.
(() => {
  "use strict";
  const { element, drawn, blend, sequential, inkOn } = crossattnElements;
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#a85a88", "#8c6d00", "#4a5568"];
  const BLUE = [0, 94, 160], ORANGE = [190, 80, 0], WHITE = [247, 247, 247];

  const diverging = (value) => {
    const size = Math.min(Math.abs(value), 1);
    return blend(WHITE, value < 0 ? ORANGE : BLUE, size);
  };
  const signed = (x, digits) => {
    const size = Math.abs(x).toFixed(digits);
    return Number(size) === 0 ? size : (x < 0 ? "\u2212" : "+") + size;
  };
  const percent = (x, digits = 2) => `${signed(100 * x, digits)} %`;
  const basisPoints = (x, digits = 1) => `${signed(1e4 * x, digits)} bp`;

  // A table of numbers, rows named, with a colour per cell. `edit(row, column, step)` makes cells
  // draggable and changes them by steps; `choose(row, column)` is called when one is picked.
  function grid(parent, { title, note, rows, columns, colour, show, speak, choose, edit }) {
    const box = element(parent, "div", "", { class: "ca-grid" });
    const caption = element(box, "p", "", { class: "ca-grid-title" });
    element(caption, "strong", title);
    const said = element(caption, "span", note ? ` ${note}` : "");
    const table = element(box, "table", "", { "aria-label": title });
    const head = element(element(table, "thead"), "tr");
    element(head, "th", "", { scope: "col" }).innerHTML = "<span class=ca-hidden>source</span>";
    columns.forEach((name) => element(head, "th", name, { scope: "col" }));
    const body = element(table, "tbody");
    const cells = rows.map((name, j) => {
      const row = element(body, "tr");
      element(row, "th", name, { scope: "row" });
      return columns.map((_, k) => {
        const cell = element(row, "td");
        const button = element(cell, "button", "", { type: "button", tabindex: j + k ? -1 : 0 });
        if (edit) {
          button.setAttribute("role", "spinbutton");
          draggable(button, (steps) => edit(j, k, steps));
        }
        button.addEventListener("click", () => choose?.(j, k));
        button.addEventListener("focus", () => choose?.(j, k));
        button.addEventListener("keydown", (event) => onKey(event, j, k));
        return button;
      });
    });
    function onKey(event, j, k) {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      const steps = { "+": 1, "=": 1, "-": -1, PageUp: 4, PageDown: -4 };
      if (edit && event.key in steps) edit(j, k, steps[event.key]);
      else if (event.key in moves) {
        const [dj, dk] = moves[event.key];
        const next = cells[j + dj]?.[k + dk];
        if (next) {
          cells.flat().forEach((cell) => { cell.tabIndex = -1; });
          next.tabIndex = 0;
          next.focus();
        }
      } else return;
      event.preventDefault();
    }
    return {
      box,
      note: (text) => { said.textContent = ` ${text}`; },
      // values [row][column]; `marks` holds "row,column" of cells with a ring around them
      draw(values, { marks = new Set(), chosen = null, closed = () => false } = {}) {
        values.forEach((row, j) => row.forEach((value, k) => {
          const cell = cells[j][k], rgb = colour(value, j, k), off = closed(j, k);
          const ground = off ? "transparent" : `rgb(${rgb})`;
          const text = off ? "\u00b7" : show(value, j, k);
          // what is written is styled and laid out anew, even where nothing changes
          if (ground !== cell.crossattnGround) {
            cell.crossattnGround = cell.style.backgroundColor = ground;
            cell.style.color = off ? "inherit" : inkOn(rgb);
          }
          if (text !== cell.textContent) {
            cell.textContent = text;
            cell.classList.toggle("ca-long", text.length > 3);
          }
          const named = `${rows[j]}, ${columns[k]}: ${off ? "masked" : speak(value)}`;
          cell.setAttribute("aria-label", named);
          if (edit) {
            cell.setAttribute("aria-valuenow", value);
            cell.setAttribute("aria-valuetext", speak(value));
          }
          cell.classList.toggle("ca-true", marks.has(`${j},${k}`));
          cell.classList.toggle("ca-chosen", chosen?.[0] === j && chosen?.[1] === k);
        }));
      },
    };
  }

  // Call `change(steps)` while the element is dragged upwards (positive) or downwards.
  function draggable(target, change) {
    target.style.touchAction = "none";
    target.addEventListener("pointerdown", (down) => {
      let from = down.clientY;
      target.setPointerCapture(down.pointerId);
      const move = (event) => {
        const steps = Math.trunc((from - event.clientY) / 5);
        if (steps) {
          from -= 5 * steps;
          change(steps);
        }
      };
      const stop = () => {
        target.removeEventListener("pointermove", move);
        target.removeEventListener("pointerup", stop);
        target.removeEventListener("pointercancel", stop);
      };
      target.addEventListener("pointermove", move);
      target.addEventListener("pointerup", stop);
      target.addEventListener("pointercancel", stop);
    });
  }

  function button(parent, text, press, attributes = {}) {
    const made = element(parent, "button", text, { type: "button", class: "ca-button",
      ...attributes });
    made.addEventListener("click", press);
    return made;
  }

  function slider(parent, { name, min, max, step, value, show, change }) {
    const label = element(parent, "label", `${name} `, { class: "ca-slider" });
    const input = element(label, "input", "", { type: "range", min, max, step });
    input.value = value;
    const output = element(label, "output");
    const tell = () => {
      output.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => {
      tell();
      change(Number(input.value));
    });
    tell();
    return { input, set: (x) => { input.value = x; tell(); }, value: () => Number(input.value) };
  }

  // Lines over time: series [{ values, colour, label, width }], values may hold null. A drawing is
  // as wide as its place when it is first drawn, so that letters keep their size on a telephone.
  function lines(svg, series, { height = 130, mark = null, label, floor, ceiling }) {
    const width = svg.crossattnWidth ??= svg.clientWidth || 700;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    const all = series.flatMap((s) => s.values).filter((v) => v !== null);
    const low = floor ?? Math.min(...all), high = ceiling ?? Math.max(...all);
    const length = Math.max(...series.map((s) => s.values.length));
    const x = (k) => 4 + ((width - 36) * k) / Math.max(length - 1, 1);
    const y = (v) => 6 + ((height - 12) * (high - v)) / (high - low || 1);
    const names = [];
    for (const { values, colour, label: name, width: stroke = 1.5, dash } of series) {
      let path = "", pen = "M";
      values.forEach((v, k) => {
        if (v === null) { pen = "M"; return; }
        path += `${pen}${x(k).toFixed(1)} ${y(v).toFixed(1)}`;
        pen = "L";
      });
      path = path.replace(/M[^ML]+(?=M|$)/g, "$&h.01"); // a point by itself
      drawn(svg, "path", { d: path || "M0 0", fill: "none", stroke: colour, "stroke-linecap": "round",
        "stroke-width": stroke, ...(dash && { "stroke-dasharray": dash }) });
      const last = values.findLastIndex((v) => v !== null);
      if (name && last >= 0) names.push([y(values[last]) + 4, x(last) + 5, name]);
    }
    names.sort(([a], [b]) => a - b).forEach((place, k) => { // apart, and none below the frame
      place[0] = Math.max(Math.min(place[0], height - 13 * (names.length - 1 - k)),
        k ? names[k - 1][0] + 13 : 10);
      drawn(svg, "text", { x: place[1], y: place[0], "font-size": 12, fill: "currentColor" }, place[2]);
    });
    if (mark !== null)
      drawn(svg, "path", { d: `M${x(mark)} 2V${height - 2}`, stroke: "currentColor",
        "stroke-dasharray": "3 3" });
  }

  // Start an explorer on every element of its name; one that fails says so in words.
  function start(name, run) {
    const begin = () => document.querySelectorAll(`[data-explorer="${name}"]:not([data-ready])`)
      .forEach((root) => {
        root.dataset.ready = "yes";
        const waiting = root.querySelector("p");
        run(root);
        waiting.remove();
        performance.mark(`crossattn-${name}`); // its first frame, for a test
      });
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
    else begin();
  }

  window.crossattnWidgets = { COLOURS, element, drawn, sequential, diverging, signed, percent,
    basisPoints, grid, draggable, button, slider, lines, start };
})();
