// Links that leave the page's frame.

/** Follow a link in Airflow's own page, because this frame cannot open windows. For clicks inside of an element. */
export function openOutside(event) {
  const link = event.target.closest("a");
  if (link === null || parent === window) return;
  const outerLink = parent.document.createElement("a");
  Object.assign(outerLink, { href: link.href, target: link.target, rel: link.rel });
  outerLink.click();
  event.preventDefault();
}
