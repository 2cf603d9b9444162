// Everything shown goes through here, as text or as attributes of our own choosing: nothing of a report becomes markup.

/** A new element; `attributes` may hold `class`, `style` (an object) and any attribute; children are elements or text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") {
      for (const [property, setting] of Object.entries(value)) made.style.setProperty(property, setting);
    } else {
      made.setAttribute(name, value);
    }
  }
  made.append(...children);
  return made;
}

export function find(selector) {
  return document.querySelector(selector);
}

/** Sets the text only where it is another: a screen reader then speaks of changes alone. */
export function say(selector, text) {
  const place = find(selector);
  if (place.textContent !== text) place.textContent = text;
}

/**
 * A table of records. A column is `{title, numeric, tell}`, where `tell` makes text or an element of a record; columns
 * that are null are left out. The first one names the row.
 */
export function fillTable(table, columns, records) {
  const shown = columns.filter((column) => column !== null);
  const kind = ({ numeric }) => (numeric ? { class: "numeric" } : {});
  const head = shown.map((column) => element("th", { scope: "col", ...kind(column) }, column.title));
  const cell = (column, record) =>
    column === shown[0]
      ? element("th", { scope: "row", ...kind(column) }, column.tell(record))
      : element("td", kind(column), column.tell(record));
  const body = records.map((record) => element("tr", {}, ...shown.map((column) => cell(column, record))));
  table.replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

/** The pairs of a description list; pairs whose text is null are left out. */
export function fillPairs(list, pairs) {
  const told = pairs.filter(([, text]) => text !== null);
  list.replaceChildren(
    ...told.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))),
  );
}
