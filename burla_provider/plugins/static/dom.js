// All content of the page is set here, as text or as known attributes, so no part of a report becomes markup.
// A refresh changes only what differs, so that a selection, the focus, open details and scroll positions survive.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element: "svg:rect" for SVG. `attributes` can hold `class`, `style` (an object) and others; null is skipped.
 * Children are elements or text; null is skipped.
 */
export function element(tag, attributes = {}, ...children) {
  const created = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) continue;
    if (name === "style") {
      for (const [property, setting] of Object.entries(value)) created.style.setProperty(property, setting);
    } else {
      created.setAttribute(name, value);
    }
  }
  created.append(...children.filter((child) => child !== null));
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
 * Make `children` the children of `parent`, with as few changes as possible: old elements are kept and updated.
 * Elements with the same `data-key` correspond to each other; others correspond by their position.
 * Listeners of the new elements are lost: listen on `parent` or further out instead.
 */
export function setChildren(parent, ...children) {
  const wanted = children.filter((child) => child !== null).map(asNode);
  const keys = new Set(wanted.map(keyOf).filter(Boolean));
  const keyed = new Map();
  const others = [];
  for (const node of [...parent.childNodes]) {
    const key = keyOf(node);
    if (key === null) others.push(node);
    else if (keys.has(key) && !keyed.has(key)) keyed.set(key, node);
    else node.remove();
  }
  let position = parent.firstChild;
  for (const node of wanted) {
    const key = keyOf(node);
    const old = key === null ? others.shift() : keyed.get(key);
    const kept = old !== undefined && old.nodeName === node.nodeName ? update(old, node) : node;
    if (old !== undefined && kept !== old) {
      if (old === position) position = old.nextSibling;
      old.remove();
    }
    if (kept === position) position = position.nextSibling;
    else parent.insertBefore(kept, position);
  }
  for (const node of others) node.remove();
}

/** Make an old node equal to a new one, and return it. Whether a `details` is open is the viewer's choice. */
function update(old, wanted) {
  if (old.isEqualNode(wanted) || old.dataset?.keep !== undefined) return old;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return old;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    // The Content-Security-Policy forbids style attributes, but not their properties.
    if (name === "style") {
      if (old.style.cssText !== wanted.style.cssText) old.style.cssText = wanted.style.cssText;
    } else if (old.getAttribute(name) !== value) {
      old.setAttribute(name, value);
    }
  }
  setChildren(old, ...wanted.childNodes);
  return old;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(child);
}

function keyOf(node) {
  return node.dataset?.key ?? null;
}

/**
 * Fill a table with records. A column is `{title, numeric, class, render}`; `render` returns text or an element for a record.
 * Columns that are null are skipped. The first column is the header of the row.
 * `keyOfRecord` returns what identifies a record at the next refresh.
 */
export function fillTable(table, columns, records, keyOfRecord = () => null) {
  const visible = columns.filter((column) => column !== null);
  const style = (column) => ({ class: column.numeric ? "numeric" : (column.class ?? null) });
  const headers = visible.map((column) => element("th", { scope: "col", ...style(column) }, column.title));
  const cell = (column, record) =>
    column === visible[0]
      ? element("th", { scope: "row", ...style(column) }, column.render(record))
      : element("td", style(column), column.render(record));
  const rows = records.map((record) =>
    element("tr", { "data-key": keyOfRecord(record) }, ...visible.map((column) => cell(column, record))),
  );
  setChildren(table, element("thead", {}, element("tr", {}, ...headers)), element("tbody", {}, ...rows));
}

/** Fill a description list with pairs of name and text (or element). Pairs whose text is null are skipped. */
export function fillPairs(list, pairs) {
  const visible = pairs.filter(([, text]) => text !== null);
  setChildren(
    list,
    ...visible.map(([name, text]) =>
      element("div", { "data-key": name }, element("dt", {}, name), element("dd", {}, text)),
    ),
  );
}
