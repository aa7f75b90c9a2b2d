"use strict";
// The map of an experiment, and the cells that are chosen on it.

const AXES_NAMED = (experiment) => experiment.axes.length ? experiment.axes : ["cell"];
const PHASE = "phase";

function metricsOf(experiment) {
  const names = Object.keys(experiment.numbers);
  const first = ["test_accuracy", "train_loss", "log_hessian_trace", "log_hessian_eigenvalue",
    "mode_connectivity", "cka", "l2_distance"].filter((name) => names.includes(name));
  return [...(experiment.phases ? [PHASE] : []), ...first, ...names.filter((name) => !first.includes(name)).sort()];
}

const placeOf = (experiment, index, axis) =>
  experiment.axes.length ? experiment.cells[index].at[axis] : experiment.cells[index].id;

const OWN = "0 − the error of each cell";

const titled = (experiment, name) => {
  const unit = experiment.units[name]?.[0];
  return unit ? `${name} (${unit})` : name;
};

// The axes that a map shows, and the values at which the other ones are held.
function placing(experiment, axes = AXES_NAMED(experiment)) {
  const count = (axis) => new Set(experiment.cells.map((cell) => cell.at[axis])).size;
  const x = axes.includes(state.x) ? state.x : axes[0];
  const others = axes.filter((axis) => axis !== x).sort((a, b) => count(b) - count(a));
  const y = others.includes(state.y) ? state.y : others[0] ?? null;
  const held = {};
  for (const axis of others.filter((one) => one !== y)) {
    const values = sorted(experiment.cells.map((cell) => cell.at[axis]));
    held[axis] = values.find((value) => String(value) === state.held[axis]) ?? values[0];
  }
  return { x, y, held };
}

function mapRows(experiment) {
  const { x, y, held } = placing(experiment);
  const metric = metricsOf(experiment).includes(state.metric) ? state.metric : metricsOf(experiment)[0];
  const rows = [];
  experiment.cells.forEach((cell, index) => {
    if (Object.entries(held).some(([axis, value]) => cell.at[axis] !== value)) return;
    const row = { x: placeOf(experiment, index, x), y: y === null ? "" : placeOf(experiment, index, y),
      id: cell.id, index, marked: state.cells.includes(cell.id), small: "" };
    rows.push(Object.assign(row, metric === PHASE ? phaseRow(experiment, index) : numberRow(experiment, metric, index)));
  });
  if (metric !== PHASE) inkOf(rows);
  return { rows, metric, x, y, held };
}

function phaseRow(experiment, index) {
  const found = phaseOf(experiment, index, state.limits);
  const { label, probability } = found, p = probability[label], next = runnerUp(found);
  const colour = label ? content.colours[label] : "#9aa3ad";
  const opacity = !label ? 0.25 : finite(p) ? 0.25 + 0.75 * p : 0.45;
  return {
    text: label || "–", colour, opacity, value: null, phase: label, probability: p ?? null,
    small: next && next[1] >= 0.1 ? `${next[0]} ${Math.round(100 * next[1])}%` : label && !finite(p) ? "?" : "",
    ink: inkOn(colour, opacity),
    tip: `${experiment.cells[index].id}: ${label || experiment.phases.status[index]}` +
      (finite(p) ? `, ${Math.round(100 * p)}%` : ", probability not known"),
  };
}

function numberRow(experiment, metric, index) {
  const numbers = experiment.numbers[metric];
  const [value, error, status] = [numbers.value[index], numbers.stderr[index], numbers.status[index]];
  return {
    value, stderr: error, n: numbers.n[index], status, text: finite(value) ? shown(value, 3) : "–",
    small: status !== "ok" ? status : finite(error) ? `± ${shown(error, 2)}` : "", opacity: finite(value) ? 1 : 0,
    tip: `${experiment.cells[index].id}: ${metric} ${finite(value) ? withError(value, error) : ""}${status === "ok" ? "" : ` ${status}`}, n = ${numbers.n[index]}`,
  };
}

function inkOf(rows) { // viridis: dark below, light above
  const values = rows.map((row) => row.value).filter(finite);
  const scale = wide(values) ? Math.log : (value) => value; // as the colours
  const [low, high] = [scale(Math.min(...values)), scale(Math.max(...values))];
  for (const row of rows)
    row.ink = !finite(row.value) ? inkOn("#000000", 0)
      : (scale(row.value) - low) / (high - low || 1) > 0.6 ? "#1c2330" : "#ffffff";
}

function mapView(main) {
  const experiment = current();
  const controls = element("div", { class: "controls" });
  const place = element("div", { class: "chart map", tabindex: 0, role: "application",
    "aria-label": `Map of ${experiment.name}; arrow keys choose a cell, with shift further ones` });
  const detail = element("section", { id: "detail", "aria-live": "polite", "aria-label": "Cells" });
  const sliders = element("div", { class: "controls sliders" });
  const note = element("p", { class: "note", id: "note" });
  const key = phaseKey();
  let view = null, rows = [], more = false;

  const redraw = latest(async () => {
    const made = mapRows(experiment);
    rows = made.rows;
    const title = (axis) => axis ?? "";
    view = await draw(place, mapSpec(rows, { x: title(made.x), y: title(made.y), legend: titled(experiment, made.metric),
      scheme: made.metric === PHASE ? null : "viridis", width: place.clientWidth || 600 }),
      `${made.metric} of the cells of ${experiment.name}, by ${made.x}${made.y ? ` and ${made.y}` : ""}`);
    view.addEventListener("click", (event, item) => {
      if (item?.datum?.id) choose(item.datum.id, event.shiftKey || more);
    });
    sliders.hidden = made.metric !== PHASE;
    note.textContent = made.metric !== PHASE ? experiment.units[made.metric]?.[1] ?? "" : state.limits
      ? `Thresholds moved by hand: ${Object.keys(state.limits).join(", ")}; the others as the rule '${experiment.phases.rule}' has them. Probabilities from each number's error by Student's t, thresholds held.`
      : `Labels and probabilities by the rule '${experiment.phases.rule}'. Fainter cells are less certain; ` +
        "small print names the next likeliest phase, ? that no probability is known. Cells marked – have no phase.";
    key.hidden = made.metric !== PHASE;
  });

  function choose(id, further) {
    if (!further) state.cells = state.cells.length === 1 && state.cells[0] === id ? [] : [id];
    else state.cells = state.cells.includes(id) ? state.cells.filter((one) => one !== id) : [...state.cells, id];
    keep();
    redraw();
    cellsView(detail, experiment);
  }

  place.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step || !rows.length) return;
    event.preventDefault();
    const xs = sorted(rows.map((row) => row.x)), ys = sorted(rows.map((row) => row.y));
    const now = rows.find((row) => row.id === state.cells.at(-1));
    const bound = (at, list) => list[Math.max(0, Math.min(list.length - 1, at))];
    const x = now ? bound(xs.indexOf(now.x) + step[0], xs) : xs[0];
    const y = now ? bound(ys.indexOf(now.y) + step[1], ys) : ys[0];
    const next = rows.find((row) => row.x === x && row.y === y);
    if (next && next.id !== now?.id) choose(next.id, event.shiftKey);
  });

  controls.append(...experimentChooser(), ...placeChoosers(experiment));
  if (experiment.phases) thresholdSliders(sliders, experiment, redraw);
  const saved = () => rows.map(({ id, index, value, stderr, n, phase, probability, status }) => ({
    cell: id, ...experiment.cells[index].at, ...(phase === undefined
      ? { metric: mapRows(experiment).metric, value, stderr, n, status } : { phase, probability }) }));
  const bar = tools(`${experiment.name}-${mapRows(experiment).metric}`, saved, () => view);
  const several = element("label", {}, "several", element("input", { type: "checkbox", "data-key": "several",
    onchange: (event) => { more = event.target.checked; } }));
  controls.append(several);
  main.append(controls, sliders, element("div", { class: "split" }, element("div", {}, place, key, note, bar), detail));
  redraw();
  cellsView(detail, experiment);
}

const experimentOf = (name) => ({ exp: name, cells: [], limits: null, held: {} });

function experimentChooser() {
  return [chooser("experiment", content.experiments.map(({ name }) => name), current().name, (name) => go(experimentOf(name)))];
}

const MEANING = { I: "sharp, poorly connected", II: "sharp, well connected", III: "flat, poorly connected",
  "IV-A": "flat, well connected, not similar", "IV-B": "flat, well connected, similar" };

function phaseKey() {
  const boxes = Object.entries(MEANING).map(([name, text]) => {
    const box = element("i");
    box.style.background = content.colours[name];
    return element("span", {}, box, ` ${name}: ${text}`);
  });
  return element("p", { class: "key" }, ...boxes);
}

function placeChoosers(experiment) {
  const { x, y, held } = placing(experiment), found = [];
  found.push(chooser("shown", metricsOf(experiment), mapRows(experiment).metric, (metric) => go({ metric })));
  if (experiment.axes.length > 1) {
    found.push(chooser("across", experiment.axes, x, (axis) => go({ x: axis, y: axis === y ? x : y })));
    found.push(chooser("upwards", experiment.axes.filter((axis) => axis !== x), y, (axis) => go({ y: axis, x })));
  }
  return [...found, ...heldChoosers(experiment, held)];
}

function heldChoosers(experiment, held) {
  const values = (axis) => sorted(experiment.cells.map((cell) => cell.at[axis]));
  return Object.entries(held).filter(([axis]) => values(axis).length > 1).map(([axis, value]) =>
    chooser(axis, values(axis), value, (one) => go({ held: { ...state.held, [axis]: String(one) } })));
}

function thresholdSliders(place, experiment, redraw) {
  const titles = { log_hessian_trace: "flat up to, log trace", mode_connectivity: "poorly connected below, %", cka: "similar from, CKA" };
  const outputs = {};
  const start = experiment.phases.thresholds;
  for (const [name, title] of Object.entries(titles)) {
    const values = (experiment.numbers[name]?.value ?? []).filter(finite);
    const known = [...values, start[name]].filter(finite);
    if (!known.length) continue;
    const [least, most] = [Math.min(...known), Math.max(...known)], room = 0.05 * (most - least || 1);
    const value = state.limits?.[name] ?? start[name];
    const own = name === "mode_connectivity" && experiment.phases.by_error && state.limits?.[name] === undefined;
    const output = element("output", {}, own ? OWN : shown(value, 4));
    const input = element("input", { type: "range", min: least - room, max: most + room, step: (most - least || 1) / 400,
      "data-threshold": name, oninput: (event) => {
        state.limits = { ...(state.limits ?? {}), [name]: Number(event.target.value) };
        output.textContent = shown(state.limits[name], 4);
        keep();
        redraw();
      } });
    input.value = value;
    outputs[name] = [input, output];
    place.append(element("label", {}, element("span", {}, `${title}: `, output), input));
  }
  place.append(element("button", { onclick: () => {
    state.limits = null;
    for (const [name, [input, output]] of Object.entries(outputs)) {
      input.value = start[name];
      output.textContent = name === "mode_connectivity" && experiment.phases.by_error ? OWN : shown(start[name], 4);
    }
    keep();
    redraw();
  } }, "back to the rule"));
}
