"use strict";
// The state of the page, which its address holds, and what shows it.

const VIEWS = { map: ["Map", mapView], scatter: ["Scatter", scatterView], compare: ["Compare", compareView],
  claims: ["Claims", claimsView], runs: ["Runs", runsView], figures: ["Figures", null] };
const BEGIN = { view: "map", exp: "", metric: "", x: "", y: "", held: {}, limits: null, cells: [], curves: [],
  a: "", b: "", other: "", paper: "all", verdict: "all", filter: "" };
let content = null, state = { ...BEGIN };

const current = () => content.experiments.find(({ name }) => name === state.exp) ?? content.experiments[0];

// Read the address: what is not as it should be there stands as at the beginning.
function read() {
  const found = { ...BEGIN };
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!Object.hasOwn(BEGIN, name)) continue;
    if (typeof BEGIN[name] === "string") { found[name] = text; continue; }
    try {
      const value = JSON.parse(text);
      const list = Array.isArray(BEGIN[name]);
      if (list === Array.isArray(value) && typeof value === "object" && (value !== null || BEGIN[name] === null)) found[name] = value;
    } catch { /* an address that somebody cut off */ }
  }
  return found;
}

function keep() {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const begin = typeof BEGIN[name] === "string" ? BEGIN[name] : JSON.stringify(BEGIN[name]);
    if (text !== begin) words.set(name, text);
  }
  history.replaceState(null, "", `#${words}`);
}

// What is asked for anew is a step in the browser's history, and the control keeps the focus.
function go(change) {
  const key = document.activeElement?.dataset?.key;
  history.pushState(null, "", location.href);
  Object.assign(state, change);
  keep();
  show();
  if (key) document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function show() {
  const main = document.getElementById("main"), figures = document.getElementById("figures");
  if (!Object.hasOwn(VIEWS, state.view)) state.view = BEGIN.view;
  const [, view] = VIEWS[state.view];
  main.replaceChildren();
  figures.hidden = view !== null;
  document.getElementById("views").replaceChildren(...Object.entries(VIEWS).map(([name, [title]]) => element("button",
    { "data-key": `view ${name}`, "aria-current": name === state.view ? "page" : null, onclick: () => go({ view: name }) }, title)));
  if (view && !content.experiments.length && view !== claimsView && view !== runsView)
    main.append(element("p", { class: "note" }, "This config has no experiment with cells."));
  else if (view) view(main);
}

async function begin() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent.trim()), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  content = JSON.parse(await new Response(stream).text());
  state = read();
  if (location.hash.startsWith("#figure-")) state.view = "figures";
  show();
  if (location.hash.startsWith("#figure-")) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#figure-")) {
      state.view = "figures";
      show();
      document.getElementById(location.hash.slice(1))?.scrollIntoView();
      return;
    }
    state = read();
    show();
  });
  dark.addEventListener("change", show);
}

begin().catch((fault) => {
  document.getElementById("main").replaceChildren(element("p", { class: "warning" }, `This browser cannot show the maps (${fault.message}); the figures are below.`));
});
