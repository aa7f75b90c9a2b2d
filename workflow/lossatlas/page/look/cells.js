"use strict";
// What is known of the chosen cells: numbers, curves, specification, command.

const PREFERRED = ["train_loss of training", "share_above", "train_loss", "msd", "plane", "cka_layers", "volume", "eigenvalue"];
const FIT = "_fit"; // ends the name of the fitted lines of a series
const MOST_GRIDS = 4; // planes and matrices of one series
const SCALES = ["auto", "linear", "log", "symlog"];

function curvesOf(experiment, cell) {
  return [...(content.curves[cell] ?? []), ...(experiment.curves[cell] ?? [])];
}

function cellsView(place, experiment) {
  const cells = experiment.cells.filter(({ id }) => state.cells.includes(id));
  if (!cells.length) {
    place.replaceChildren(element("p", { class: "note" }, "Click a cell for its numbers and curves; shift-click adds cells to compare."));
    return;
  }
  place.replaceChildren(numbersOf(experiment, cells), curvesPart(experiment, cells), ...cells.map(specOf));
}

function numbersOf(experiment, cells) {
  const names = metricsOf(experiment).filter((name) => name !== PHASE);
  const at = (cell) => experiment.cells.indexOf(cell);
  const label = (cell) => experiment.axes.map((axis) => `${axis} ${cell.at[axis]}`).join(", ") || cell.id;
  const columns = [["", (name) => titled(experiment, name), false]];
  for (const cell of cells) columns.push([label(cell), (name) => {
    const numbers = experiment.numbers[name], index = at(cell);
    const text = finite(numbers.value[index]) ? withError(numbers.value[index], numbers.stderr[index]) : "";
    const status = numbers.status[index] === "ok" ? "" : ` ${numbers.status[index]}`;
    return `${text}${status}${numbers.n[index] > 0 ? ` (n ${numbers.n[index]})` : ""}`;
  }, false, (name) => experiment.numbers[name].value[at(cell)]]);
  const chances = experiment.phases ? cells.map((cell) => phaseOf(experiment, at(cell), state.limits)) : [];
  const percent = ({ label, probability }) => `${label || "none"}; ` + (Object.entries(probability)
    .filter(([, p]) => finite(p)).map(([name, p]) => `${name} ${Math.round(100 * p)}%`).join(", ") || "probabilities not known");
  const phases = chances.map((one, index) => element("p", {}, `Phase${cells.length > 1 ? ` of ${label(cells[index])}` : ""}: ${percent(one)}`));
  const rows = names.filter((name) => cells.some((cell) => experiment.numbers[name].n[at(cell)] > 0 || experiment.numbers[name].status[at(cell)] !== "undefined"));
  return element("div", {}, element("h3", {}, cells.length === 1 ? cells[0].id : `${cells.length} cells`),
    ...phases, sortable(columns, rows));
}

function curvesPart(experiment, cells) {
  const all = cells.flatMap((cell) => curvesOf(experiment, cell.id).map((item) => ({ ...item, cell })));
  const names = [...new Set(all.map((item) => item.series))].filter((name) => !name.endsWith(FIT));
  if (!names.length) return element("p", { class: "note" }, "No curves were recorded of these cells.");
  const first = PREFERRED.filter((name) => names.includes(name)).slice(0, 3);
  let chosen = names.filter((name) => state.curves.includes(name));
  if (!chosen.length) chosen = first.length ? first : names.slice(0, 2);
  const chips = element("div", { class: "chips", role: "group", "aria-label": "Curves" });
  const charts = element("div");
  const scales = { x: SCALES[0], y: SCALES[0] };
  const scale = (axis) => chooser(`${axis} axes`, SCALES, scales[axis], (one) => { scales[axis] = one; fill(); });
  const label = (cell) => cells.length === 1 ? "" : experiment.axes.map((axis) => `${axis} ${cell.at[axis]}`).join(", ") || cell.id;

  const fill = latest(async () => {
    const made = element("div");
    const add = async (spec, description, file, rows, attributes = {}) => {
      const place = made.appendChild(element("div", { class: "chart", ...attributes }));
      const view = await draw(place, spec, description);
      made.append(tools(file.replaceAll(/[^\w.=-]+/g, "-"), rows, () => view, false));
    };
    const width = Math.max(160, Math.min(480, (charts.clientWidth || 420) - 110));
    for (const name of chosen) {
      const some = all.filter((item) => item.series === name);
      const file = [experiment.name, name, ...cells.map(({ id }) => id)].join("-").slice(0, 120);
      const grids = some.filter((item) => item.z), lines = some.filter((item) => item.x);
      for (const item of grids.slice(0, MOST_GRIDS)) {
        const title = [name, label(item.cell), item.name].filter(Boolean).join(", ");
        const spec = item.layers ? matrixSpec(item, { title, width: width - 60 }) : planeSpec(item, { title, width: width - 60 });
        await add(spec, `${name}: ${item.name}`, `${file}-${item.name}`, () => gridRows(item));
      }
      if (grids.length > MOST_GRIDS) made.append(element("p", { class: "note" }, `${MOST_GRIDS} of ${grids.length} are shown`));
      if (!lines.length) continue;
      const total = cells.reduce((sum, cell) => sum + (lines.find((item) => item.cell === cell)?.of ?? 0), 0);
      const fits = all.filter((item) => item.series === name + FIT).map((item) => ({ ...item, fit: true }));
      const items = [...lines, ...fits].map((item) => ({ ...item, who: cells.length === 1 ? item.name : label(item.cell) }));
      await add(curveSpec(items, { title: name + (total > lines.length ? ` (${lines.length} of ${total} curves)` : ""), axes: lines[0].over ?? experiment.over[name] ?? ["", ""],
        xScale: scales.x, yScale: scales.y, width }),
        `${name} of ${cells.map(({ id }) => id).join(", ")}`, file, () => curveRows([...lines, ...fits]), { "data-series": name });
    }
    charts.replaceChildren(made);
  });

  for (const name of names) {
    const chip = element("button", { "aria-pressed": String(chosen.includes(name)), onclick: () => {
      chosen = chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name];
      chip.setAttribute("aria-pressed", String(chosen.includes(name)));
      state.curves = chosen;
      keep();
      fill();
    } }, name);
    chips.append(chip);
  }
  queueMicrotask(fill);
  return element("div", {}, element("h3", {}, "Curves"), chips, element("div", { class: "controls" }, scale("x"), scale("y")),
    charts);
}

const curveRows = (items) => items.flatMap((item) => item.x.map((x, at) =>
  ({ cell: item.cell.id, series: item.series, curve: item.name, x, y: item.y[at], low: item.low?.[at], high: item.high?.[at] })));

function gridRows(item) {
  const names = item.layers ? { u: item.layers, v: item.layers, of: ["layer_of_one", "layer_of_another"] } : { u: item.u, v: item.v, of: ["v", "u"] };
  return item.z.flatMap((row, i) => row.map((z, j) => ({ cell: item.cell.id, series: item.series, of: item.name,
    [names.of[0]]: names.v[i], [names.of[1]]: names.u[j], [item.value]: z, ...(item.stderr ? { stderr: item.stderr[i][j] } : {}) })));
}

function specOf(cell) {
  const part = element("div", {}, element("h3", {}, cell.id));
  if (cell.commands.length) part.append(element("p", { class: "note" }, "Trained by"), element("pre", {}, cell.commands.join("\n")));
  if (cell.spec) part.append(element("details", {}, element("summary", {}, "Specification"), element("pre", {}, cell.spec)));
  return part;
}
