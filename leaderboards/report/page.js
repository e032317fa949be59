"use strict";
// The list of all rows: only those in sight are in the document, so that a hundred thousand sort and filter at once.
(() => {
  const HEIGHT = 28, SPARE = 8;
  const data = JSON.parse(document.getElementById("data").textContent);
  const list = document.getElementById("list"), body = document.getElementById("body");
  const head = document.getElementById("head"), filter = document.getElementById("filter");
  const count = document.getElementById("count");
  const texts = data.rows.map((row) => row.map((cell) => (cell === null ? "" : String(cell))).join("\u0001").toLowerCase());
  const numeric = data.columns.map((_, at) => data.rows.some((row) => typeof row[at] === "number"));
  let shown = data.rows.map((_, at) => at), sorted = -1, falling = false;

  data.columns.forEach((name, at) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    cell.scope = "col";
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => sort(at));
    cell.append(button);
    head.append(cell);
  });

  function sort(at) {
    falling = sorted === at ? !falling : numeric[at];
    sorted = at;
    [...head.children].forEach((cell, other) => {
      if (other === at) cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.firstChild.textContent = data.columns[other] + (other === at ? (falling ? " ▾" : " ▴") : "");
    });
    order();
  }

  function order() {
    if (sorted >= 0) {
      const sign = falling ? -1 : 1;
      shown.sort((a, b) => {
        const x = data.rows[a][sorted], y = data.rows[b][sorted];
        if (x === y) return a - b;
        if (x === null || x === "") return 1; // unknown values last, whichever way
        if (y === null || y === "") return -1;
        return sign * (x < y ? -1 : 1);
      });
    }
    list.scrollTop = 0;
    draw();
  }

  function choose() {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
      const [name, ...rest] = word.split(":"), at = data.columns.indexOf(name);
      return rest.length && at >= 0 ? [at, rest.join(":")] : [-1, word];
    });
    const fits = (row) => wanted.every(([at, word]) => {
      if (at < 0) return texts[row].includes(word);
      const cell = data.rows[row][at];
      return cell !== null && String(cell).toLowerCase().includes(word);
    });
    shown = data.rows.map((_, at) => at).filter(fits);
    order();
  }

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / HEIGHT) + 2 * SPARE);
    body.replaceChildren(space(first * HEIGHT), ...shown.slice(first, last).map(line), space((shown.length - last) * HEIGHT));
    count.textContent = `${shown.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} rows`;
  }

  function line(at) {
    const row = document.createElement("tr");
    data.rows[at].forEach((value, column) => {
      const cell = document.createElement("td");
      cell.textContent = value === null ? "" : numeric[column] && !Number.isInteger(value) ? value.toFixed(3) : value;
      if (numeric[column]) cell.className = "number";
      else cell.title = cell.textContent;
      row.append(cell);
    });
    return row;
  }

  function space(height) {
    const row = document.createElement("tr"), cell = document.createElement("td");
    row.setAttribute("aria-hidden", "true");
    cell.colSpan = data.columns.length;
    cell.style.cssText = `height:${height}px;padding:0;border:0`;
    row.append(cell);
    return row;
  }

  let waiting = 0;
  list.addEventListener("scroll", () => {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; draw(); });
  });
  filter.addEventListener("input", choose);
  window.addEventListener("resize", draw);
  draw();
})();
