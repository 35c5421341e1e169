// Drawing: one panel a chart, the library loaded once for all.
const panels = [];

// Columns to the rows that the library wants.
function rowsOf(table) {
  const names = Object.keys(table);
  return table[names[0]].map((_, place) => Object.fromEntries(names.map((name) => [name, table[name][place]])));
}

// A panel: where it is drawn, the figure it belongs to, and what is drawn now: {spec, datasets, label}.
function addPanel(host, figure, now) {
  const panel = { host, figure, now, view: null, finish: () => {} };
  panels.push(panel);
  return panel;
}

function addFigurePanels(element) {
  const name = element.dataset.figure;
  const { charts, tables } = report.figures[name];
  const datasets = Object.fromEntries(Object.entries(tables).map(([key, table]) => [key, rowsOf(table)]));
  for (const host of element.querySelectorAll("[data-chart]")) {
    const { spec, label } = charts[host.dataset.chart];
    addPanel(host, name, () => ({ spec, datasets, label }));
  }
}

function complete({ spec, datasets }, theme) {
  return { ...painted(spec, theme), datasets };
}

async function drawPanel(panel) {
  panel.finish();
  try {
    const options = { mode: "vega-lite", actions: false, renderer: "canvas", config: painted(report.theme.vega, themeName()) };
    const drawn = await vegaEmbed(panel.host, complete(panel.now(), themeName()), options);
    panel.view = drawn.view;
    panel.finish = () => { drawn.finalize(); panel.view = null; };
    panel.host.dataset.marks = countMarks(drawn.view.scenegraph().root);
  } catch (error) {
    panel.host.textContent = `This figure could not be drawn: ${error.message}`;
    panel.host.classList.add("failed");
    console.error(error);
  }
}

async function drawAll() {
  for (const panel of panels) await drawPanel(panel);
}

// How many marks the library made, axes and legends left out: what tests count.
function countMarks(item) {
  if (item.role === "axis" || item.role === "legend" || item.role === "title") return 0;
  if (item.items && item.marktype !== undefined && item.marktype !== "group") return item.items.length;
  return (item.items ?? []).reduce((sum, child) => sum + countMarks(child), 0);
}
