"use strict";
(function () {
  const root = document.documentElement;

  // ---- colours: automatic, light or dark; kept where the browser lets a file keep anything
  const button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const signs = { auto: "◐", light: "○", dark: "●" };
  function kept() {
    try { return localStorage.getItem("kappa-theme") || "auto"; } catch { return "auto"; }
  }
  function show(theme) {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `${signs[theme]} ${theme}`;
    button.setAttribute("aria-label", `colours: ${theme === "auto" ? "automatic" : theme}`);
  }
  let theme = themes.includes(kept()) ? kept() : "auto";
  show(theme);
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show(theme);
    try { localStorage.setItem("kappa-theme", theme); } catch { /* it lasts for this page */ }
  });

  // ---- in print everything is open
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => { opened.forEach((part) => { part.open = false; }); });

  const ledger = document.getElementById("ledger");
  if (!ledger) return;
  const body = ledger.tBodies[0];
  const rows = [...body.rows];
  const heads = [...ledger.tHead.rows[0].cells];

  // ---- sorting: numbers as numbers, what is no number last, ties as they were
  const first = new Map(rows.map((row, place) => [row, place]));
  function key(row, column) {
    const cell = row.cells[column];
    return cell.dataset.key ?? cell.textContent.trim();
  }
  function compare(a, b, sign) {
    const [x, y] = [a, b].map((text) => (text === "" ? NaN : Number(text)));
    const [noX, noY] = [Number.isNaN(x), Number.isNaN(y)];
    if (!noX && !noY) return sign * (x - y);
    if (noX !== noY) return noX ? 1 : -1;
    if ((a === "–") !== (b === "–")) return a === "–" ? 1 : -1;
    return sign * a.localeCompare(b, "en", { numeric: true });
  }
  function sort(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((a, b) => compare(key(a, column), key(b, column), sign) || first.get(a) - first.get(b));
    body.append(...rows);
    heads.forEach((head, at) => head.setAttribute("aria-sort", at === column ? direction : "none"));
  }
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "ascending";
      sort(column, up ? "descending" : "ascending");
    });
  });
  document.getElementById("sort").addEventListener("change", (event) => {
    sort(Number(event.target.value), "ascending");
  });

  // ---- filters
  const filters = [...document.querySelectorAll("[data-filter]")];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  function matches(row, filter) {
    const name = filter.dataset.filter, wanted = filter.value.trim();
    if (wanted === "") return true;
    return name === "text"
      ? texts.get(row).includes(wanted.toLowerCase())
      : row.dataset[name] === wanted;
  }
  function filter() {
    rows.forEach((row) => { row.hidden = !filters.every((one) => matches(row, one)); });
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = `${left} of ${rows.length} entries`;
  }
  const form = document.getElementById("filters");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("every-row").addEventListener("click", () => { form.reset(); filter(); });
  document.querySelectorAll("button.count").forEach((pick) => {
    pick.addEventListener("click", () => {
      form.reset();
      for (const one of filters) {
        if (one.dataset.filter in pick.dataset) one.value = pick.dataset[one.dataset.filter];
      }
      filter();
      form.scrollIntoView();
    });
  });
}());
