// Heads become buttons: a press sorts the table; rows marked "few" and empty cells stay last.
// No "less than" and no ampersand stands here, so that the page is also well-formed XML.
const names = new Intl.Collator("en", { numeric: true });

function compared(one, other) {
  const isNumber = one.dataset.value ? other.dataset.value : false;
  if (isNumber) return Number(one.dataset.value) - Number(other.dataset.value);
  return names.compare(one.textContent, other.textContent);
}

function sortBy(head) {
  const body = head.closest("table").tBodies[0];
  const first = head.classList.contains("text") ? "ascending" : "descending";
  const second = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  const cell = (row) => row.cells[head.cellIndex];
  const place = (row) => (row.classList.contains("few") ? 2 : 0) + (cell(row).dataset.none ? 1 : 0);
  const rows = Array.from(body.rows);
  rows.sort((a, b) => place(a) - place(b) || sign * compared(cell(a), cell(b)));
  body.append(...rows);
  for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
}

for (const head of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sortBy(head));
}
