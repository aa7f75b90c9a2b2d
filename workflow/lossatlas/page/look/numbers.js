"use strict";
// Numbers of cells: formats, Student's t, and phases by thresholds that the reader moves.

const finite = (value) => typeof value === "number" && Number.isFinite(value);

function shown(value, digits = 3) {
  if (!finite(value)) return "";
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

// An error with two digits, and the value to the same place.
function withError(value, error) {
  if (!finite(value)) return "";
  if (!finite(error) || error <= 0) return shown(value, 4);
  const place = Math.max(0, Math.min(8, 1 - Math.floor(Math.log10(error))));
  if (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4) return `${shown(value)} ± ${shown(error, 2)}`;
  return `${value.toFixed(place)} ± ${error.toFixed(place)}`;
}

// Cumulative distribution of Student's t, linear between the places of a table.
function student(phases, z, df) {
  if (!finite(df) || df <= 0) return null;
  const table = phases.student[nearestKey(phases.student, df)];
  const size = Math.abs(z), at = phases.errors, last = at.length - 1;
  let upper = 1;
  if (size < at[last]) {
    const index = at.findIndex((edge) => edge > size);
    const share = (size - at[index - 1]) / (at[index] - at[index - 1]);
    upper = table[index - 1] + share * (table[index] - table[index - 1]);
  }
  return z >= 0 ? upper : 1 - upper;
}

function nearestKey(table, df) {
  let best = "", least = Infinity;
  for (const key of Object.keys(table)) {
    const far = Math.abs(Math.log(Number(key) / df));
    if (far < least) [best, least] = [key, far];
  }
  return best;
}

// Probability that a number of a cell lies below a limit; null where its error is not known.
function below(experiment, name, index, limit) {
  const { value, stderr, df } = experiment.numbers[name] ?? { value: [], stderr: [], df: [] };
  if (!finite(value[index]) || !finite(stderr[index]) || !finite(df[index])) return null;
  if (stderr[index] === 0) return value[index] < limit ? 1 : 0;
  return student(experiment.phases, (limit - value[index]) / stderr[index], df[index]);
}

// The thresholds of a cell: those that were moved, and else those of the rule.
function limitsOf(experiment, index, limits) {
  const { thresholds, by_error: byError } = experiment.phases;
  const found = { ...thresholds, ...limits };
  if (byError && limits.mode_connectivity === undefined)
    found.mode_connectivity = -(experiment.numbers.mode_connectivity.stderr[index] ?? 0);
  return found;
}

// The phase of a cell by thresholds, and the probability of each: as tables.phases, for fixed limits.
function phaseOf(experiment, index, limits) {
  const { phases } = experiment;
  if (limits === null) {
    const probability = {};
    for (const name of phases.names) probability[name] = phases.probability[name][index];
    return { label: phases.label[index] ?? "", probability };
  }
  if (phases.learned[index] === "no") return { label: "", probability: {} };
  const number = (name) => experiment.numbers[name]?.value[index];
  const [trace, mode, cka] = ["log_hessian_trace", "mode_connectivity", "cka"].map(number);
  if (!finite(trace) || !finite(mode)) return { label: "", probability: {} };
  const at = limitsOf(experiment, index, limits);
  const flat = trace <= at.log_hessian_trace, poor = mode < at.mode_connectivity;
  let label = flat ? (poor ? "III" : "IV") : poor ? "I" : "II";
  if (label === "IV") label = finite(cka) ? (cka >= at.cka ? "IV-B" : "IV-A") : "";
  const [f, p, u] = ["log_hessian_trace", "mode_connectivity", "cka"].map((name) => below(experiment, name, index, at[name]));
  if (f === null || p === null) return { label, probability: {} };
  const four = f * (1 - p);
  return {
    label,
    probability: {
      I: (1 - f) * p, II: (1 - f) * (1 - p), III: f * p,
      "IV-A": u === null ? null : four * u, "IV-B": u === null ? null : four * (1 - u),
    },
  };
}

// The likeliest phase besides the label.
function runnerUp({ label, probability }) {
  const others = Object.entries(probability).filter(([name, p]) => name !== label && finite(p));
  others.sort((a, b) => b[1] - a[1]);
  return others[0] ?? null;
}

const sorted = (values) => [...new Set(values)].sort((a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
