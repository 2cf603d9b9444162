// All content of the page is set here, as text or as known attributes, so no part of a report becomes markup.

/** Create an element. `attributes` can hold `class`, `style` (an object) and others; children are elements or text. */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") {
      for (const [property, setting] of Object.entries(value)) created.style.setProperty(property, setting);
    } else {
      created.setAttribute(name, value);
    }
  }
  created.append(...children);
  return created;
}

export function find(selector) {
  return document.querySelector(selector);
}

/** Set the text of an element if it changed, so that a screen reader announces changes only. */
export function setText(selector, text) {
  const target = find(selector);
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Fill a table with records. A column is `{title, numeric, render}`; `render` returns text or an element for a record.
 * Columns that are null are skipped. The first column is the header of the row.
 */
export function fillTable(table, columns, records) {
  const visible = columns.filter((column) => column !== null);
  const style = ({ numeric }) => (numeric ? { class: "numeric" } : {});
  const headers = visible.map((column) => element("th", { scope: "col", ...style(column) }, column.title));
  const cell = (column, record) =>
    column === visible[0]
      ? element("th", { scope: "row", ...style(column) }, column.render(record))
      : element("td", style(column), column.render(record));
  const rows = records.map((record) => element("tr", {}, ...visible.map((column) => cell(column, record))));
  table.replaceChildren(element("thead", {}, element("tr", {}, ...headers)), element("tbody", {}, ...rows));
}

/** Fill a description list with pairs of name and text. Pairs whose text is null are skipped. */
export function fillPairs(list, pairs) {
  const visible = pairs.filter(([, text]) => text !== null);
  list.replaceChildren(
    ...visible.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))),
  );
}
