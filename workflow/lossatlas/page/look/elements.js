"use strict";
// Elements of the page. Text from configs and tables only ever becomes text, never markup.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function chooser(title, options, chosen, change) {
  const list = element("select", { "data-key": title, onchange: (event) => change(options[event.target.selectedIndex]) });
  for (const option of options) list.append(element("option", { selected: option === chosen }, String(option)));
  return element("label", {}, title, list);
}

const ROWS = 500; // of a table that are shown

// Work that is done again, once, if it was asked for meanwhile.
function latest(work) {
  let running = false, again = false;
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      running = false;
    }
  };
}

// A table whose columns sort by a click: columns are [title, row -> value, isNumber, row -> what it sorts by].
function sortable(columns, rows) {
  let by = -1, falling = false;
  const body = element("tbody");
  const head = element("tr");
  const fill = () => {
    const some = [...rows];
    if (by >= 0) {
      const value = columns[by][3] ?? columns[by][1];
      some.sort((a, b) => {
        const [p, q] = [value(a), value(b)];
        if (finite(p) && finite(q)) return p - q;
        if (finite(p) !== finite(q)) return finite(p) ? -1 : 1;
        return String(p ?? "").localeCompare(String(q ?? ""));
      });
      if (falling) some.reverse();
    }
    body.replaceChildren(...some.slice(0, ROWS).map((row) => element("tr", {}, ...columns.map(
      ([, value, number]) => {
        const one = value(row);
        return element("td", { class: number ? "number" : null }, number ? shown(one, 4) : String(one ?? ""));
      }))));
  };
  columns.forEach(([title, , number], index) => {
    const sort = () => {
      [falling, by] = [by === index && !falling, index];
      for (const [place, cell] of [...head.children].entries())
        cell.setAttribute("aria-sort", place !== index ? "none" : falling ? "descending" : "ascending");
      fill();
    };
    head.append(element("th", { class: number ? "number" : null, "aria-sort": "none" },
      element("button", { onclick: sort }, title)));
  });
  fill();
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), body));
}

function save(name, type, content) {
  const url = content.startsWith?.("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  if (!url.startsWith("data:")) setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function csv(rows) {
  const names = [...new Set(rows.flatMap(Object.keys))];
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows.map((row) => names.map((name) => row[name]))]
    .map((cells) => cells.map(quoted).join(",")).join("\n") + "\n";
}

// Buttons that save what a view shows: its numbers, its picture, its address.
function tools(name, rows, view, address = true) {
  const bar = element("div", { class: "tools" });
  const button = (title, act) => bar.append(element("button", { onclick: act }, title));
  button("CSV", () => save(`${name}.csv`, "text/csv", csv(rows())));
  if (view) {
    button("SVG", async () => save(`${name}.svg`, "image/svg+xml", await (await onPaper(view())).toSVG()));
    button("PNG", async () => save(`${name}.png`, "image/png", await (await onPaper(view())).toImageURL("png", 3)));
  }
  if (address) button("Link", async (event) => {
    try { await navigator.clipboard.writeText(location.href); event.target.textContent = "copied"; }
    catch { prompt("The address of this view", location.href); }
  });
  return bar;
}
