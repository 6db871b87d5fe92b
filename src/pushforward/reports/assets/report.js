"use strict";
// The controls of the page. Plots are in plots.js.
document.documentElement.classList.add("scripted");

const page = { redraws: [], loaded: null };
page.redraw = () => page.redraws.forEach((redraw) => redraw());

page.content = (element) => JSON.parse(element.querySelector('script[type="application/json"]').textContent);

// Plotly, unpacked when the first plot needs it.
page.plotly = () => {
  page.loaded ??= (async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  })();
  return page.loaded;
};

page.failed = (element) => (error) => {
  element.textContent = `The plot cannot be drawn (${error}). A browser of 2024 or later is needed.`;
};

// Light or dark: the system's choice, until the reader presses the button.
{
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => { button.textContent = isDark() ? "Light" : "Dark"; page.redraw(); };
  button.hidden = false;
  button.title = "change between light and dark";
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; show(); });
  system.addEventListener("change", show);
  show();
  // Paper is white, whatever the screen is.
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; page.redraw(); });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    page.redraw();
  });
}

// The table of parameters: filter, order, and the choice of what is plotted.
page.chooser = (block, onChoice) => {
  const body = block.querySelector("table.summary tbody"), rows = [...body.rows], most = 24;
  const filter = block.querySelector(".filter"), count = block.querySelector(".count");
  const first = block.querySelector(".first"), initially = Number(block.dataset.shown);
  const box = (row) => row.querySelector("input");
  const visible = () => [...body.rows].filter((row) => !row.hidden);
  const announce = () => {
    const chosen = rows.filter((row) => box(row).checked);
    const shown = chosen.slice(0, most).map((row) => Number(box(row).value));
    const more = chosen.length > most ? ` (the first ${most} are plotted)` : "";
    count.textContent = `${visible().length} of ${rows.length} listed, ${chosen.length} chosen${more}`;
    onChoice(shown);
  };
  const chooseFirst = () => {
    for (const row of rows) box(row).checked = false;
    for (const row of visible().slice(0, initially)) box(row).checked = true;
    announce();
  };
  filter.addEventListener("input", () => {
    const part = filter.value.toLowerCase();
    for (const row of rows) row.hidden = !row.cells[1].textContent.toLowerCase().includes(part);
    const found = visible().length;
    first.textContent = `Plot the first ${Math.min(initially, found)} found`;
    first.disabled = !found;
    announce();
  });
  first.addEventListener("click", chooseFirst);
  block.querySelector(".none").addEventListener("click", () => {
    for (const row of rows) box(row).checked = false;
    announce();
  });
  body.addEventListener("change", announce);
  for (const button of block.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = Number(button.dataset.column) + 1;
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of block.querySelectorAll("thead th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      // In the order of the model by name, otherwise by number.
      const key = (row) => (column === 1 ? Number(box(row).value) : Number(row.cells[column].textContent));
      const sorted = [...rows].sort((a, b) => key(a) - key(b));
      body.append(...(descending ? sorted.reverse() : sorted));
    });
  }
  chooseFirst();
};
