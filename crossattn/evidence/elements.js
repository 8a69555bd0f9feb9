// What every explorer needs, in a notebook, in a report and in the pages of the book: elements of a
// page, and colours for shares with an ink that is read on them.
window.crossattnElements ??= (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102],
    [254, 232, 56]];

  const filled = (made, parent, text, attributes) => {
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };
  const element = (parent, name, text = "", attributes = {}) =>
    filled(document.createElement(name), parent, text, attributes);
  const drawn = (parent, name, attributes, text = "") =>
    filled(document.createElementNS(SVG, name), parent, text, attributes);
  const blend = (from, to, share) => from.map((v, k) => Math.round(v + share * (to[k] - v)));
  const sequential = (share) => {
    const place = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
    const low = Math.min(Math.floor(place), CIVIDIS.length - 2);
    return blend(CIVIDIS[low], CIVIDIS[low + 1], place - low);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const inkOn = (rgb) => (luminance(rgb) > 0.179 ? "#000" : "#fff");
  return { element, drawn, blend, sequential, inkOn };
})();
