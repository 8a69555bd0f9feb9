(() => {
  "use strict";
  const { element, drawn, sequential, inkOn } = window.crossattnElements;
  const range = (size) => Array.from({ length: size }, (_, k) => k);

  function start(root) {
    root.dataset.ready = "yes";
    const content = JSON.parse(root.querySelector("script").textContent);
    const { symbols, sources, times, size, packed } = content;
    const [nTimes, nHeads, nLags] = size;
    const n = sources.length, many = n > 12;
    root.classList.toggle("many", many);
    const codes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const shareAt = (t, h, i, j, l) =>
      (codes[(((t * nHeads + h) * symbols.length + i) * n + j) * nLags + l] / 255) ** 2;

    // 0 on a slider is the mean over times or heads, and the sum over lags
    const chosen = (value, count) => (value === 0 ? range(count) : [value - 1]);
    const share = (i, j, time, head, lag) => {
      const [ts, hs, ls] = [chosen(time, nTimes), chosen(head, nHeads), chosen(lag, nLags)];
      let total = 0;
      for (const t of ts) for (const h of hs) for (const l of ls) total += shareAt(t, h, i, j, l);
      return total / (ts.length * hs.length);
    };

    const controls = element(root, "div");
    controls.className = "controls";
    const slider = (name, count, say) => {
      const label = element(controls, "label", name);
      const input = element(label, "input");
      Object.assign(input, { type: "range", min: 0, max: count, step: 1, value: 0 });
      input.disabled = count < 2;
      const shown = element(label, "output");
      input.addEventListener("input", update);
      return { value: () => Number(input.value), tell: () => {
        shown.textContent = say(Number(input.value));
        input.setAttribute("aria-valuetext", shown.textContent);
      } };
    };
    const menu = (name, names) => {
      const label = element(controls, "label", name);
      const select = element(label, "select");
      names.forEach((symbol, k) => { element(select, "option", symbol).value = k; });
      select.addEventListener("input", update);
      return select;
    };
    const time = slider("time", nTimes, (k) => (k ? times[k - 1] : `mean of ${nTimes}`));
    const lag = slider("lag", nLags, (k) => (k ? `${k}` : `sum of ${nLags}`));
    const head = slider("head", nHeads, (k) => (k ? `${k}` : `mean of ${nHeads}`));
    const follower = menu("follower", symbols);
    const leader = menu("leader", sources);
    leader.value = Math.min(1, n - 1);

    const panels = element(root, "div");
    panels.className = "panels";
    const map = element(panels, "div");
    map.className = "map";
    map.tabIndex = 0; // it scrolls where there are many sources
    const table = element(map, "table");
    table.setAttribute("aria-label", "attention: query assets in rows, sources in columns");
    const header = element(table, "tr");
    element(header, "th", "query \\ key");
    for (const source of sources) element(header, "th", source).scope = "col";
    const cells = symbols.map((symbol, i) => {
      const row = element(table, "tr");
      element(row, "th", symbol).scope = "row";
      return sources.map((_, j) => {
        const cell = element(row, "td");
        cell.addEventListener("click", () => {
          follower.value = i;
          leader.value = j;
          update();
        });
        return cell;
      });
    });
    const note = element(map, "div");
    const side = element(panels, "div");
    const chart = () => {
      const figure = element(side, "figure");
      const svg = drawn(figure, "svg", { viewBox: "0 0 300 110", role: "img" });
      return { svg, caption: element(figure, "figcaption") };
    };
    const byLag = chart();
    const byTime = chart();

    // one scale for all times of a pair, so that moving through time compares like with like
    const topOf = (shares) => Math.max(0.01, ...shares);

    function frame({ svg, caption }, text, top) {
      svg.replaceChildren();
      svg.setAttribute("aria-label", text);
      caption.textContent = text;
      drawn(svg, "path", { d: "M30 5V95H295", fill: "none", stroke: "currentColor" });
      for (const [y, text] of [[95, "0"], [9, top.toFixed(2)]]) {
        drawn(svg, "text", { x: 24, y, "text-anchor": "end", "font-size": 11,
          fill: "currentColor" }, text);
      }
    }

    function update() {
      [time, lag, head].forEach((control) => control.tell());
      const [t, l, h] = [time.value(), lag.value(), head.value()];
      const [i, j] = [Number(follower.value), Number(leader.value)];
      const shares = cells.map((row, a) => row.map((_, b) => share(a, b, t, h, l)));
      const brightest = many ? topOf(shares.flat()) : 1; // many sources have small shares
      note.textContent = many ? `Brightest colour: ${brightest.toFixed(2)}` : "";
      cells.forEach((row, a) => row.forEach((cell, b) => {
        const value = shares[a][b], rgb = sequential(value / brightest);
        cell.style.background = `rgb(${rgb})`;
        cell.style.color = inkOn(rgb);
        cell.textContent = many ? "" : value.toFixed(2);
        cell.title = `${symbols[a]} \u2190 ${sources[b]}: ${value.toFixed(3)}`;
        cell.classList.toggle("chosen", a === i && b === j);
      }));
      const pair = `${symbols[i]} \u2190 ${sources[j]}`;
      const lags = range(nLags).map((k) => share(i, j, t, h, k + 1));
      const highest = topOf(range(nTimes).flatMap((k) =>
        range(nLags).map((m) => share(i, j, k + 1, h, m + 1))));
      frame(byLag, `${pair}, attention by lag, 1 to ${nLags}`, highest);
      const wide = 265 / nLags;
      lags.forEach((value, k) => {
        const tall = (88 * value) / highest;
        drawn(byLag.svg, "rect", { x: 32 + k * wide, y: 95 - tall, width: 0.8 * wide,
          height: tall, fill: l === k + 1 ? "#d55e00" : "#0072b2" });
      });
      const path = range(nTimes).map((k) => share(i, j, k + 1, h, l));
      const peak = topOf(path);
      frame(byTime, `${pair}, attention through time: ${times[0]} to ${times[nTimes - 1]}`, peak);
      const across = (k) => 32 + (260 * k) / Math.max(nTimes - 1, 1);
      const points = path.map((value, k) => `${across(k)},${95 - (88 * value) / peak}`);
      drawn(byTime.svg, "polyline", { points: points.join(" "), fill: "none", stroke: "#0072b2" });
      if (t) {
        const x = across(t - 1);
        drawn(byTime.svg, "path", { d: `M${x} 5V95`, stroke: "#d55e00", "stroke-width": 2 });
      }
    }
    update();
    root.querySelector("p").remove();
  }

  document.querySelectorAll(".crossattn-explorer:not([data-ready])").forEach(start);
})();
