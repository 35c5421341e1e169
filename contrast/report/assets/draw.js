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

// Canvas: a heat map has some ten thousand cells, too many for elements of their own.
// The page's policy allows neither eval nor further styles: expressions are interpreted, and the rules are in page.css.
function embedOptions(theme) {
  const asPolicyAllows = { ast: true, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  return { mode: "vega-lite", actions: false, renderer: "canvas", ...asPolicyAllows, config: painted(report.theme.vega, theme) };
}

async function drawPanel(panel) {
  panel.finish();
  try {
    const drawn = await vegaEmbed(panel.host, complete(panel.now(), themeName()), embedOptions(themeName()));
    panel.view = drawn.view;
    panel.finish = () => { drawn.finalize(); panel.view = null; };
    panel.host.dataset.marks = countMarks(drawn.view.scenegraph().root);
    panel.follow?.(); // what was chosen meanwhile
  } catch (error) {
    panel.host.textContent = `This figure could not be drawn: ${error.message}`;
    panel.host.classList.add("failed");
    console.error(error);
  }
}

// Panels are drawn in turn, one request after the other: two drawings of one panel at once would leave one behind.
let drawing = Promise.resolve();

function drawAll(which = () => true) {
  drawing = drawing.then(async () => {
    for (const panel of panels.filter(which)) await drawPanel(panel);
  });
  return drawing;
}

// How many marks the library made, axes and legends left out: what tests count.
function countMarks(item) {
  if (item.role === "axis" || item.role === "legend" || item.role === "title") return 0;
  if (item.items && item.marktype !== undefined && item.marktype !== "group") return item.items.length;
  return (item.items ?? []).reduce((sum, child) => sum + countMarks(child), 0);
}
