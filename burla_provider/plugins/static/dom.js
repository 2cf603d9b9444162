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

/** A table's head and rows. A column is `{title, numeric}`; a row is a list of texts or elements, its first the header. */
export function fillTable(table, columns, rows) {
  const kind = (number) => (columns[number].numeric ? { class: "numeric" } : {});
  const head = columns.map((column, number) => element("th", { scope: "col", ...kind(number) }, column.title));
  const body = rows.map((cells) =>
    element(
      "tr",
      {},
      ...cells.map((cell, number) =>
        number === 0 ? element("th", { scope: "row", ...kind(0) }, cell) : element("td", kind(number), cell),
      ),
    ),
  );
  table.replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}

/** The pairs of a description list; pairs whose text is null are left out. */
export function fillPairs(list, pairs) {
  const told = pairs.filter(([, text]) => text !== null);
  list.replaceChildren(
    ...told.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))),
  );
}
