"use strict";
// Scatter, compare, claims, runs.

function scatterView(main) {
  const experiment = current(), names = metricsOf(experiment).filter((name) => name !== PHASE);
  const a = names.includes(state.a) ? state.a : names[0], b = names.includes(state.b) ? state.b : names[1] ?? names[0];
  const place = element("div", { class: "chart" }), small = element("div", { class: "chart" });
  const said = element("p", { class: "note" }, "Drag over points to mark their cells.");
  let view = null;
  const rows = experiment.cells.map((cell, index) => {
    const [x, y] = [a, b].map((name) => experiment.numbers[name].value[index]);
    const [dx, dy] = [a, b].map((name) => experiment.numbers[name].stderr[index] ?? 0);
    const phase = experiment.phases ? phaseOf(experiment, index, state.limits).label || "none" : "cells";
    return { id: cell.id, a: x, b: y, a0: x - dx, a1: x + dx, b0: y - dy, b1: y + dy, phase, ...cell.at };
  }).filter((row) => finite(row.a) && finite(row.b));
  const phases = sorted(rows.map((row) => row.phase));
  const axis = (field, name) => ({ field, type: "quantitative", title: titled(experiment, name), scale: { zero: false }, axis: { format: ".3~g" } });
  const spec = {
    data: { values: rows }, width: Math.max(240, Math.min(560, (main.clientWidth || 600) - 120)), height: 380,
    layer: [
      { mark: { type: "rule", opacity: 0.5 }, encoding: { x: axis("a0", a), x2: { field: "a1" }, y: axis("b", b) } },
      { mark: { type: "rule", opacity: 0.5 }, encoding: { x: axis("a", a), y: axis("b0", b), y2: { field: "b1" } } },
      { params: [{ name: "brush", select: "interval" }],
        mark: { type: "point", filled: true, size: 60, tooltip: true, stroke: look().axis.titleColor, strokeWidth: 0.5 },
        encoding: { x: axis("a", a), y: axis("b", b), tooltip: [{ field: "id" }, { field: "a", title: a }, { field: "b", title: b }],
          color: { field: "phase", type: "nominal", title: experiment.phases ? PHASE : null,
            legend: experiment.phases ? {} : null,
            scale: { domain: phases, range: phases.map((name) => content.colours[name] ?? "#7c8794") } } } },
    ],
  };
  async function mark() {
    const made = mapRows(experiment);
    await draw(small, mapSpec(made.rows, { x: made.x, y: made.y ?? "", legend: titled(experiment, made.metric),
      scheme: made.metric === PHASE ? null : "viridis", width: small.clientWidth || 420 }), "Cells that are marked");
  }
  if (!rows.length) place.append(element("p", { class: "note" }, "No cell has both numbers."));
  else draw(place, spec, `${b} against ${a} of the cells of ${experiment.name}, with standard errors`).then((made) => {
    view = made;
    let waiting = 0;
    view.addSignalListener("brush", (_, value) => {
      const inside = ({ a: x, b: y }) => value.a && value.b && x >= Math.min(...value.a) && x <= Math.max(...value.a)
        && y >= Math.min(...value.b) && y <= Math.max(...value.b);
      state.cells = rows.filter(inside).map(({ id }) => id);
      said.textContent = `${state.cells.length} of ${rows.length} cells marked`;
      clearTimeout(waiting);
      waiting = setTimeout(() => { keep(); mark(); }, 80);
    });
  });
  main.append(element("div", { class: "controls" }, ...experimentChooser(), chooser("across", names, a, (one) => go({ a: one, b })),
    chooser("upwards", names, b, (one) => go({ b: one, a }))),
  element("div", { class: "split" }, element("div", {}, place, said, tools(`${experiment.name}-scatter`,
    () => rows.map(({ id, a: x, b: y, phase }) => ({ cell: id, [a]: x, [b]: y, phase })), () => view)), small));
  queueMicrotask(mark);
}

const commonAxes = (one, two) => one.axes.filter((axis) => two.axes.includes(axis));

// The experiment with most cells at the same values of the common axes.
function mostAlike(first) {
  const others = content.experiments.filter((one) => one !== first);
  const same = (other) => {
    const axes = commonAxes(first, other), key = (cell) => JSON.stringify(axes.map((axis) => cell.at[axis]));
    const there = new Set(other.cells.map(key));
    return axes.length ? first.cells.filter((cell) => there.has(key(cell))).length : 0;
  };
  return others.sort((a, b) => same(b) - same(a))[0] ?? first;
}

function compareView(main) {
  const names = content.experiments.map(({ name }) => name);
  const first = current();
  const other = content.experiments.find(({ name }) => name === state.other) ?? mostAlike(first);
  const metrics = Object.keys(first.numbers).filter((name) => name in other.numbers);
  const metric = metrics.includes(state.metric) ? state.metric : metrics[0];
  const axes = commonAxes(first, other);
  const place = element("div", { class: "chart" }), rows = [];
  let view = null;
  const key = (cell) => JSON.stringify(axes.map((axis) => cell.at[axis]));
  const there = new Map(other.cells.map((cell, index) => [key(cell), index]));
  if (metric) first.cells.forEach((cell, index) => {
    const twin = there.get(key(cell));
    if (twin === undefined) return;
    const [p, q] = [first.numbers[metric], other.numbers[metric]];
    const value = p.value[index] - q.value[twin], error = Math.hypot(p.stderr[index] ?? NaN, q.stderr[twin] ?? NaN);
    if (!finite(p.value[index]) || !finite(q.value[twin])) return;
    const same = other.cells[twin].id === cell.id;
    const clear = !same && finite(error) && error > 0 ? Math.abs(value) > 2 * error : null;
    rows.push({ x: cell.at[axes[0]] ?? cell.id, y: axes.length > 1 ? cell.at[axes.at(-1)] : "", id: cell.id, value,
      stderr: finite(error) ? error : null, text: same ? "same" : shown(value, 2), small: !same && finite(error) ? `± ${shown(error, 2)}` : "", opacity: clear === false ? 0.35 : clear ? 1 : 0.6,
      ink: dark.matches && clear === false ? "#ffffff" : "#1c2330", tip: same ? "one and the same cell" : `${withError(value, error)}${clear === false ? ", within twice its error" : ""}` });
  });
  main.append(element("div", { class: "controls" }, ...experimentChooser(),
    chooser("minus", names, other.name, (name) => go({ other: name })),
    ...(metrics.length ? [chooser("shown", metrics, metric, (one) => go({ metric: one }))] : [])), place);
  if (!rows.length || first === other) {
    place.append(element("p", { class: "note" }, first === other ? "Choose another experiment to compare with."
      : "These two experiments have no cells at the same values of common axes."));
    return;
  }
  draw(place, mapSpec(rows, { x: axes[0] ?? "cell", y: axes.length > 1 ? axes.at(-1) : "", legend: `difference of ${titled(first, metric)}`,
    scheme: "blueorange", middle: true, width: main.clientWidth || 600 }), `${metric}: ${first.name} minus ${other.name}`)
    .then((made) => { view = made; });
  main.append(element("p", { class: "note" }, "Pale cells differ by less than twice the standard error of the difference; of half-pale ones it is not known. Replicas of equal seeds are not independent."),
    tools(`${first.name}-minus-${other.name}`, () => rows.map(({ id, x, y, value, stderr }) => ({ cell: id, x, y, value, stderr })), () => view));
}

function claimsView(main) {
  const claims = content.claims, ANY = "all";
  const kinds = (name) => [ANY, ...sorted(claims.map((claim) => claim[name]))];
  const papers = kinds("paper"), verdicts = kinds("holds");
  const kept = claims.filter((claim) => (state.paper === ANY || !papers.includes(state.paper) || claim.paper === state.paper)
    && (state.verdict === ANY || !verdicts.includes(state.verdict) || claim.holds === state.verdict));
  main.append(element("div", { class: "controls" },
    chooser("paper", papers, papers.includes(state.paper) ? state.paper : ANY, (one) => go({ paper: one })),
    chooser("verdict", verdicts, verdicts.includes(state.verdict) ? state.verdict : ANY, (one) => go({ verdict: one }))),
  element("p", { class: "note" }, `${kept.length} of ${claims.length} verdicts`), tools("claims", () => kept, null),
  element("div", { class: "cards" }, ...kept.map(claimCard)));
}

function claimCard(claim) {
  const number = (name) => claim[name] === "" ? NaN : Number(claim[name]);
  const [effect, low, high] = ["effect", "low", "high"].map(number);
  const known = content.experiments.some(({ name }) => name === claim.experiment);
  const card = element("article", { class: `card ${["yes", "no"].includes(claim.holds) ? claim.holds : ""}` },
    element("span", { class: "verdict" }, claim.holds), element("strong", {}, claim.claim), ` ${claim.paper}`,
    element("p", {}, claim.statement), element("p", { class: "note" }, `claimed for ${claim.condition}; expected: ${claim.expected}`),
    element("p", {}, claim.observed));
  if (finite(effect)) card.append(element("p", { class: "note" },
    `effect ${shown(effect)}${finite(low) ? `, 95% interval ${shown(low)} to ${shown(high)}` : ""}` +
    `${claim.p_holm ? `, p ${shown(Number(claim.p_holm), 2)} after Holm` : ""}, ${claim.units} units`));
  if (finite(effect) && finite(low) && finite(high)) card.append(interval(effect, low, high));
  if (known) card.append(element("p", {}, element("button", { onclick: () => go({ view: "map", exp: claim.experiment, cells: [] }) }, `map of ${claim.experiment}`)));
  else card.append(element("p", { class: "note" }, claim.experiment));
  return card;
}

// An interval with its estimate, and the place of 0 if it is near.
function interval(effect, low, high) {
  const [least, most] = [Math.min(low, 0, effect), Math.max(high, 0, effect)], room = 0.06 * (most - least || 1);
  const at = (value) => `${100 * (value - least + room) / (most - least + 2 * room)}%`;
  const bar = element("div", { class: "interval", role: "img", "aria-label": `from ${shown(low)} to ${shown(high)}; the red line is 0` });
  const [band, mark, zero] = [element("i"), element("b"), element("u")];
  band.style.left = at(low);
  band.style.width = `calc(${at(high)} - ${at(low)})`;
  mark.style.left = at(effect);
  zero.style.left = at(0);
  bar.append(band, zero, mark);
  return bar;
}

function runsView(main) {
  const runs = content.runs;
  if (!runs.length) {
    main.append(element("p", { class: "note" }, "No records of training beside this page's tables."));
    return;
  }
  const ends = [...new Set(runs.flatMap(Object.keys))].filter((name) => !["cell", "replica", "status", "together", "seconds", "memory_mb", "device", "started", "versions", "file"].includes(name));
  const columns = [["cell", (run) => run.cell, false], ["replica", (run) => run.replica, true], ["status", (run) => run.status, false],
    ...ends.map((name) => [name, (run) => run[name], true]), ["s of the job", (run) => run.seconds, true], ["replicas in it", (run) => run.together, true],
    ["peak MB", (run) => run.memory_mb, true], ["device", (run) => run.device, false], ["started", (run) => run.started, false]];
  const place = element("div"), said = element("p", { class: "note" });
  const fits = () => runs.filter((run) => state.filter.toLowerCase().split(/\s+/).every((word) => JSON.stringify(run).toLowerCase().includes(word)));
  const fill = () => {
    const some = fits();
    said.textContent = `${some.length} of ${runs.length} replicas${some.length > 3000 ? ", the first 3,000 are shown" : ""}`;
    place.replaceChildren(sortable(columns, some));
  };
  const input = element("input", { type: "search", placeholder: "words, as: w32 diverged", oninput: (event) => { state.filter = event.target.value; keep(); fill(); } });
  input.value = state.filter;
  main.append(element("div", { class: "controls" }, element("label", {}, "filter", input)), said, place, tools("runs", fits, null));
  fill();
}
