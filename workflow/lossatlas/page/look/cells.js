"use strict";
// What is known of the chosen cells: numbers, curves, specification, command.

const PREFERRED = ["train_loss of training", "share_above", "train_loss", "msd", "plane", "volume", "eigenvalue"];
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
  const names = [...new Set(all.map((item) => item.series))];
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
    const width = Math.max(160, Math.min(480, (charts.clientWidth || 420) - 80));
    for (const name of chosen) {
      const some = all.filter((item) => item.series === name);
      const planes = some.filter((item) => item.z), lines = some.filter((item) => item.x);
      for (const item of planes.slice(0, 4)) {
        const place = made.appendChild(element("div", { class: "chart" }));
        await draw(place, planeSpec(item, { title: [name, label(item.cell), item.name].filter(Boolean).join(", "), width: width - 60 }), `${name}: ${item.name}`);
      }
      if (planes.length > 4) made.append(element("p", { class: "note" }, `4 of ${planes.length} planes`));
      if (!lines.length) continue;
      const total = cells.reduce((sum, cell) => sum + (lines.find((item) => item.cell === cell)?.of ?? 0), 0);
      const items = lines.map((item) => ({ ...item, who: cells.length === 1 ? item.name : label(item.cell) }));
      const place = made.appendChild(element("div", { class: "chart", "data-series": name }));
      await draw(place, curveSpec(items, { title: name + (total > lines.length ? ` (${lines.length} of ${total} curves)` : ""), axes: lines[0].over ?? experiment.over[name] ?? ["", ""],
        xScale: scales.x, yScale: scales.y, width }),
        `${name} of ${cells.map(({ id }) => id).join(", ")}`);
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
  const rows = () => all.filter((item) => chosen.includes(item.series) && item.x).flatMap((item) => item.x.map((x, at) =>
    ({ cell: item.cell.id, series: item.series, curve: item.name, x, y: item.y[at], low: item.low?.[at], high: item.high?.[at] })));
  queueMicrotask(fill);
  return element("div", {}, element("h3", {}, "Curves"), chips, element("div", { class: "controls" }, scale("x"), scale("y")),
    charts, tools(`${experiment.name}-curves`, rows, null));
}

function specOf(cell) {
  const part = element("div", {}, element("h3", {}, cell.id));
  if (cell.commands.length) part.append(element("p", { class: "note" }, "Trained by"), element("pre", {}, cell.commands.join("\n")));
  if (cell.spec) part.append(element("details", {}, element("summary", {}, "Specification"), element("pre", {}, cell.spec)));
  return part;
}
