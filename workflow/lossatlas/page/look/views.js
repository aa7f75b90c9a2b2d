"use strict";
// Scatter, compare, claims, runs.

function scatterView(main) {
  const experiment = current(), names = metricsOf(experiment).filter((name) => name !== PHASE);
  const a = names.includes(state.a) ? state.a : names[0], b = names.includes(state.b) ? state.b : names[1] ?? names[0];
  const place = element("div", { class: "chart" }), small = element("div", { class: "chart" });
  const said = element("p", { class: "note" }, `Drag over points to mark their cells.${state.limits && experiment.phases ? " Phases by thresholds moved by hand." : ""}`);
  let view = null;
  const rows = experiment.cells.map((cell, index) => {
    const [x, y] = [a, b].map((name) => experiment.numbers[name].value[index]);
    const [dx, dy] = [a, b].map((name) => experiment.numbers[name].stderr[index] ?? 0);
    const phase = experiment.phases ? phaseOf(experiment, index, state.limits).label || "none" : "cells";
    return { id: cell.id, a: x, b: y, a0: x - dx, a1: x + dx, b0: y - dy, b1: y + dy, dx, dy, phase, at: cell.at };
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
  const mark = latest(async () => {
    const made = mapRows(experiment);
    await draw(small, mapSpec(made.rows, { x: made.x, y: made.y ?? "", legend: titled(experiment, made.metric),
      scheme: made.metric === PHASE ? null : "viridis", width: small.clientWidth || 420 }), "Cells that are marked");
  });
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
    () => rows.map(({ id, at, a: x, b: y, dx, dy, phase }) => ({ cell: id, ...at, [a]: x, [`stderr of ${a}`]: dx, [b]: y, [`stderr of ${b}`]: dy, phase })), () => view)), small));
  queueMicrotask(mark);
}

// Cells of two experiments at the same values of their common axes; why there are none, or not one each.
function matched(first, other) {
  const axes = first.axes.filter((axis) => other.axes.includes(axis));
  const metrics = Object.keys(first.numbers).filter((name) => name in other.numbers);
  const key = (cell) => JSON.stringify(axes.map((axis) => cell.at[axis]));
  const there = new Map(other.cells.map((cell, index) => [key(cell), index]));
  const here = new Set(first.cells.map(key));
  const pairs = first.cells.flatMap((cell, index) => there.has(key(cell)) ? [[index, there.get(key(cell))]] : []);
  let why = "";
  if (first === other) why = "Choose another experiment to compare with.";
  else if (!metrics.length) why = "These two experiments have no metric in common.";
  else if (!axes.length) why = "These two experiments have no axis in common.";
  else if (there.size < other.cells.length || here.size < first.cells.length)
    why = `Several cells have the same ${axes.join(" and ")}: these experiments have not the same axes.`;
  else if (!pairs.length) why = `No cells have the same ${axes.join(" and ")}.`;
  return { axes, metrics, pairs, why };
}

// The experiment with most cells to compare.
function mostAlike(first) {
  const others = content.experiments.filter((one) => one !== first);
  const count = (other) => { const { why, pairs } = matched(first, other); return why ? 0 : pairs.length; };
  return others.sort((a, b) => count(b) - count(a))[0] ?? first;
}

function compareView(main) {
  const names = content.experiments.map(({ name }) => name), first = current();
  const other = content.experiments.find(({ name }) => name === state.other) ?? mostAlike(first);
  const { axes, metrics, pairs, why } = matched(first, other);
  const metric = metrics.includes(state.metric) ? state.metric : metricsOf(first).find((name) => metrics.includes(name));
  const { x, y, held } = placing(first, axes.length ? axes : undefined);
  const place = element("div", { class: "chart" }), rows = [];
  let view = null;
  for (const [index, twin] of why ? [] : pairs) {
    const cell = first.cells[index], [p, q] = [first.numbers[metric], other.numbers[metric]];
    const value = p.value[index] - q.value[twin], error = Math.hypot(p.stderr[index] ?? NaN, q.stderr[twin] ?? NaN);
    if (!finite(p.value[index]) || !finite(q.value[twin])) continue;
    if (Object.entries(held).some(([axis, at]) => cell.at[axis] !== at)) continue;
    const same = other.cells[twin].id === cell.id;
    const clear = !same && finite(error) && error > 0 ? Math.abs(value) > 2 * error : null;
    rows.push({ x: cell.at[x], y: y === null ? "" : cell.at[y], id: cell.id, at: cell.at, value, same,
      stderr: !same && finite(error) ? error : null, text: same ? "same" : shown(value, 2),
      small: !same && finite(error) ? `± ${shown(error, 2)}` : "", opacity: clear === false ? 0.35 : clear ? 1 : 0.6,
      tip: same ? "one and the same cell" : `${withError(value, error)}${clear === false ? ", within twice its error" : ""}` });
  }
  const most = spread(rows.map((row) => row.value))[1];
  for (const row of rows) row.ink = Math.abs(row.value) > 0.6 * most && row.opacity > 0.5 ? "#ffffff" : inkOn("#f0f0f0", row.opacity);
  main.append(element("div", { class: "controls" }, ...experimentChooser(),
    chooser("minus", names, other.name, (name) => go({ other: name })),
    ...(metrics.length ? [chooser("shown", metrics, metric, (one) => go({ metric: one }))] : []),
    ...heldChoosers(first, held)), place);
  if (why || !rows.length) {
    place.append(element("p", { class: "note" }, why || `No cell has ${metric} in both.`));
    return;
  }
  draw(place, mapSpec(rows, { x, y: y ?? "", legend: `difference of ${titled(first, metric)}`,
    scheme: "blueorange", middle: true, width: main.clientWidth || 600 }), `${metric}: ${first.name} minus ${other.name}`)
    .then((made) => { view = made; });
  main.append(element("p", { class: "note" }, "Faint cells differ by less than twice the standard error of the difference; of half-faint ones it is not known. Replicas of equal seeds are not independent."),
    tools(`${first.name}-minus-${other.name}-${metric}`, () => rows.map(({ id, at, value, stderr, same }) =>
      ({ cell: id, ...at, metric, difference: value, stderr, same_cell: same })), () => view));
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
  if (known) card.append(element("p", {}, element("button", { onclick: () => go({ view: "map", ...experimentOf(claim.experiment) }) }, `map of ${claim.experiment}`)));
  else card.append(element("p", { class: "note" }, claim.experiment));
  return card;
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
  let waiting = 0;
  const fits = () => runs.filter((run) => state.filter.toLowerCase().split(/\s+/).every((word) => JSON.stringify(run).toLowerCase().includes(word)));
  const fill = () => {
    const some = fits();
    said.textContent = `${some.length} of ${runs.length} replicas${some.length > ROWS ? `, of which ${ROWS} are shown` : ""}`;
    place.replaceChildren(sortable(columns, some));
  };
  const input = element("input", { type: "search", placeholder: "words, as: w32 diverged", oninput: (event) => { state.filter = event.target.value; keep(); clearTimeout(waiting); waiting = setTimeout(fill, 120); } });
  input.value = state.filter;
  main.append(element("div", { class: "controls" }, element("label", {}, "filter", input)), said, place, tools("runs", fits, null));
  fill();
}
