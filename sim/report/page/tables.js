// Tables that sort by a click on a column's head.

function sortBy(table, place, turn) {
  const body = table.tBodies[0], rows = [...body.rows], texts = rows.map(row => row.cells[place].textContent);
  const compare = comparing(texts);
  const order = rows.map((_, number) => number).sort((a, b) => compare(texts[a], texts[b], turn) || a - b);
  body.append(...order.map(number => rows[number]));
}

function makeSortable(table) {
  if (!table.tHead || table.classList.contains("plain") || table.tBodies[0].rows.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    if (head.tagName !== "TH") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(one => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortBy(table, place, down ? -1 : 1);
    });
  });
}

