"use strict";
// Vega-Lite specifications, and how they are drawn.

const dark = matchMedia("(prefers-color-scheme: dark)");

function look(paper = false) {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line] = paper ? ["#1c2330", "#5b6472", "#d5dae2"]
    : ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  return {
    background: paper ? "#ffffff" : null, font: "system-ui, sans-serif", view: { stroke: null },
    axis: { labelColor: soft, titleColor: ink, gridColor: line, domainColor: soft, tickColor: soft,
            labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 },
    legend: { labelColor: soft, titleColor: ink, labelFontSize: 12, titleFontWeight: 400, labelLimit: 260, titleLimit: 300 },
    text: { color: ink }, rule: { color: soft },
  };
}

async function draw(place, spec, description) {
  place.style.minHeight = `${place.offsetHeight}px`; // the page does not jump while it is drawn anew
  const whole = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", description, ...spec };
  const { view } = await vegaEmbed(place, whole, { actions: false, renderer: "svg", config: look() });
  place.style.minHeight = "";
  document.getElementById("vg-tooltip-element")?.classList.remove("visible"); // of what was there before
  specs.set(view, whole);
  return view;
}

const specs = new WeakMap();

// A view as it is saved: dark on white, whatever the page looks like.
async function onPaper(view) {
  return (await vegaEmbed(document.createElement("div"), specs.get(view), { actions: false, renderer: "svg", config: look(true) })).view;
}

// Black or white, whichever is read on a colour that lets the page through.
function inkOn(colour, opacity = 1) {
  const back = dark.matches ? [20, 24, 30] : [255, 255, 255];
  const [r, g, b] = [1, 3, 5].map((at, index) =>
    opacity * parseInt(colour.slice(at, at + 2), 16) + (1 - opacity) * back[index]);
  return 0.299 * r + 0.587 * g + 0.114 * b > 130 ? "#1c2330" : "#ffffff";
}

// A map: rows of { x, y, id, text, small, colour | value, opacity, marked, tip }.
function mapSpec(rows, { x, y, legend, scheme, middle, width }) {
  const xs = sorted(rows.map((row) => row.x)), ys = sorted(rows.map((row) => row.y)).reverse();
  const step = Math.max(8, Math.min(90, (width - 170) / Math.max(1, xs.length)));
  const high = Math.max(8, Math.min(56, 560 / Math.max(1, ys.length)));
  const position = {
    x: { field: "x", type: "ordinal", sort: xs, title: x, axis: { labelAngle: 0, labelOverlap: true } },
    y: { field: "y", type: "ordinal", sort: ys, title: y },
    tooltip: { field: "tip", title: "cell" },
  };
  const values = rows.map((row) => row.value).filter(finite);
  const colour = scheme
    ? { field: "value", type: "quantitative", title: legend,
        legend: { gradientLength: 120, format: ".3~g" },
        scale: { scheme, type: !middle && wide(values) ? "log" : "linear", ...(middle ? { domainMid: 0, domain: spread(values) } : values.length ? {} : { domain: [0, 1] }) } }
    : { field: "colour", type: "nominal", scale: null };
  const layer = [{
    mark: { type: "rect", cursor: "pointer", cornerRadius: 1, invalid: null },
    encoding: { color: colour, opacity: { field: "opacity", type: "quantitative", scale: null } },
  }, {
    transform: [{ filter: "datum.marked" }],
    mark: { type: "rect", filled: false, stroke: look().axis.titleColor, strokeWidth: 3, cursor: "pointer" },
  }];
  const fits = (name, each) => Math.max(...rows.map((row) => String(row[name] ?? "").length)) * each <= step - 2;
  if (fits("text", 6.6) && high >= 14) {
    layer.push({ mark: { type: "text", fontSize: 12, dy: -1, cursor: "pointer" },
      encoding: { text: { field: "text" }, color: { field: "ink", type: "nominal", scale: null } } });
    if (high >= 30 && fits("small", 5.1)) layer.push({ mark: { type: "text", fontSize: 9.5, dy: 12, cursor: "pointer" },
      encoding: { text: { field: "small" }, color: { field: "ink", type: "nominal", scale: null } } });
  }
  return { data: { values: rows }, width: { step }, height: { step: high }, encoding: position, layer,
    resolve: { scale: { color: "independent" } } };
}

const spread = (values) => {
  const most = Math.max(...values.map(Math.abs)) || 1;
  return [-most, most];
};

// Whether positive numbers reach over decades.
const wide = (values) => {
  const known = values.filter(finite);
  return known.length > 0 && Math.min(...known) > 0 && Math.max(...known) >= 50 * Math.min(...known);
};

// The kind of path that the name of a curve tells, as bezier or linear.
const kindOf = (name) => /path (\w+)/.exec(name ?? "")?.[1] ?? "";

// Curves: items of { x, y, low, high, name, who }.
function curveSpec(items, { xScale, yScale, title, axes, width }) {
  const floor = yScale === "auto" ? 1e-8 * Math.max(...items.flatMap(({ y }) => y).filter(finite)) : 0;
  const fitted = items.some(({ fit }) => fit); // power laws: lines on logarithmic axes
  if (fitted && yScale === "auto" && xScale === "auto") yScale = xScale = "log";
  if (yScale === "auto") yScale = wide(items.flatMap(({ y }) => y)) ? "log" : "linear";
  if (xScale === "auto") xScale = yScale === "log" && wide(items.flatMap(({ x }) => x)) ? "log" : "linear";
  const values = [], positive = { x: xScale === "log", y: yScale === "log" };
  items.forEach((item, line) => item.x.forEach((x, index) => {
    const y = item.y[index];
    if (!finite(x) || !finite(y) || (positive.x && x <= 0) || (positive.y && (y <= 0 || y < floor))) return;
    const [low, high] = item.low ? [item.low[index], item.high[index]] : [null, null];
    const bare = !finite(low) || !finite(high) || (positive.y && low <= 0);
    values.push({ x, y, low: bare ? y : low, high: bare ? y : high, line, who: item.who, name: item.name, kind: item.fit ? "fitted" : kindOf(item.name) || (fitted ? "measured" : "") });
  }));
  const names = sorted(values.map((row) => row.who));
  const kinds = fitted ? ["measured", "fitted"] : sorted(values.map((row) => row.kind));
  const axis = (field, type, text) => ({ field, type: "quantitative", title: text,
    scale: { type, ...(type === "log" ? {} : { zero: false }), ...(type === "symlog" ? { constant: 1e-3 } : {}) },
    axis: { tickCount: 5, format: ".3~g" } });
  const encoding = {
    x: axis("x", xScale, axes[0]), detail: { field: "line" },
    color: { field: "who", type: "nominal", title: null, sort: names,
             legend: names.length > 1 && names.length <= 8
      ? { orient: "bottom", columns: 1, symbolType: "stroke", symbolOpacity: 1, symbolStrokeWidth: 2 } : null },
  };
  return {
    data: { values }, width, height: 190, title: { text: title, anchor: "start", fontSize: 12, color: look().axis.titleColor },
    encoding,
    layer: [
      { mark: { type: "area", opacity: 0.18 }, encoding: { y: axis("low", yScale, axes[1]), y2: { field: "high" } } },
      { mark: { type: "line", strokeWidth: 1.5, tooltip: true },
        encoding: { ...(kinds.length > 1 ? { strokeDash: { field: "kind", type: "nominal", title: null, sort: kinds, legend: { orient: "bottom" } } } : {}),
          y: axis("y", yScale, axes[1]), tooltip: [{ field: "name" }, { field: "who", title: "of" }] } },
    ],
  };
}

// A plane: { u, v, z, value }.
function planeSpec(item, { title, width }) {
  const values = [], edges = (at) => at.map((value, index) => [
    index ? (at[index - 1] + value) / 2 : value, index + 1 < at.length ? (value + at[index + 1]) / 2 : value]);
  const us = edges(item.u), vs = edges(item.v);
  item.z.forEach((row, j) => row.forEach((z, i) => {
    if (finite(z)) values.push({ u: us[i][0], u2: us[i][1], v: vs[j][0], v2: vs[j][1], z });
  }));
  const log = values.every(({ z }) => z > 0);
  return {
    data: { values }, width, height: 190, title: { text: title, anchor: "start", fontSize: 12, color: look().axis.titleColor },
    mark: { type: "rect", tooltip: true, strokeWidth: 0 },
    encoding: {
      x: { field: "u", type: "quantitative", title: "u", scale: { zero: false, nice: false } }, x2: { field: "u2" },
      y: { field: "v", type: "quantitative", title: "v", scale: { zero: false, nice: false } }, y2: { field: "v2" },
      color: { field: "z", type: "quantitative", title: item.value, scale: { scheme: "viridis", type: log ? "log" : "linear" } },
      tooltip: { field: "z", title: item.value, format: ".4~g" },
    },
  };
}

// Layers of two replicas: { layers, z, stderr, value }.
function matrixSpec(item, { title, width }) {
  const values = [];
  item.z.forEach((row, i) => row.forEach((z, j) => {
    if (finite(z)) values.push({ a: item.layers[i], b: item.layers[j], z, tip: `${item.layers[i]} and ${item.layers[j]}: ${withError(z, item.stderr[i][j] ?? NaN)}` });
  }));
  const least = Math.min(0, ...values.map(({ z }) => z)), side = Math.max(150, Math.min(width, 300));
  const axis = (field, text) => ({ field, type: "ordinal", title: text, scale: { domain: item.layers },
    sort: item.layers, axis: { labelAngle: field === "a" ? 0 : -60, labelLimit: 90, labelOverlap: true } });
  return {
    data: { values }, width: side, height: side, title: { text: title, anchor: "start", fontSize: 12, color: look().axis.titleColor },
    mark: { type: "rect", tooltip: true },
    encoding: {
      y: { ...axis("a", "layer of one replica"), sort: [...item.layers].reverse(), scale: { domain: [...item.layers].reverse() } },
      x: axis("b", "layer of another replica"),
      color: { field: "z", type: "quantitative", title: item.value, scale: { scheme: "viridis", domain: [least, 1] } },
      tooltip: { field: "tip", title: item.value },
    },
  };
}
