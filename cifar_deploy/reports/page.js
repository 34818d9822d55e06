"use strict";
const table = document.getElementById("all");
if (table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], tools = document.getElementById("tools");
  let order = [...body.rows].map(row => ({ row, cells: [...row.cells], text: "", found: true }));
  let limit = Number(table.dataset.first), words = [];
  const collator = new Intl.Collator("en", { numeric: true });

  const button = (text, label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };

  heads.forEach((head, index) => head.append(button("↕", "sort by " + head.textContent, () => sort(index))));

  function sort(index) {
    const head = heads[index], sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heads) {
      other.removeAttribute("aria-sort");
      other.querySelector("button").textContent = "↕";
    }
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    head.querySelector("button").textContent = sign > 0 ? "↑" : "↓";
    for (const each of order) {
      const { dataset, textContent } = each.cells[index];
      each.key = dataset.v === undefined ? textContent : Number(dataset.v);
    }
    // Numbers before words; a cell without a number stays at the end, whichever way.
    order.sort((a, b) => {
      if (typeof a.key === "number") return typeof b.key === "number" ? sign * (a.key - b.key) : -1;
      return typeof b.key === "number" ? 1 : sign * collator.compare(a.key, b.key);
    });
    show();
    body.replaceChildren(...order.map(each => each.row));
  }

  // The rows that are found, as many as are shown at once.
  function show() {
    let found = 0;
    for (const { row, found: is } of order) {
      row.hidden = !is;
      row.classList.toggle("later", is && ++found > limit);
    }
    const rows = n => n.toLocaleString("en") + (n === 1 ? " row" : " rows");
    count.textContent = words.length ? rows(found) + " of " + order.length.toLocaleString("en") : rows(found);
    more.hidden = found <= limit;
    more.textContent = "show all";
  }

  const field = document.createElement("input"), count = document.createElement("output");
  const more = button("", "", () => { limit = Infinity; show(); });
  field.type = "search";
  field.placeholder = "filter rows, e.g. int8 litert";
  field.setAttribute("aria-label", "filter rows");
  field.addEventListener("input", () => {
    words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const each of order) {
      each.text ||= each.row.textContent.toLowerCase();
      each.found = words.every(word => each.text.includes(word));
    }
    show();
  });
  tools.append(field, count, " ", more);
  show();
}
for (const code of document.querySelectorAll(".path code")) {
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "copy";
  copy.setAttribute("aria-label", "copy the path " + code.textContent);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
  code.after(" ", copy);
}
// A link into a folded part opens it.
function unfold() {
  let at = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const own = at && at.querySelector(":scope > details");
  if (own) own.open = true;
  for (; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
}
addEventListener("hashchange", unfold);
unfold();
