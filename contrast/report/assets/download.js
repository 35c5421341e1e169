// Downloads, made when asked for: the drawing in light colours at a fixed width, and the figure's numbers.
const EXPORT_WIDTH = 720;

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function panelSvg(panel) {
  const now = panel.now();
  const spec = { ...complete(now, "light"), width: EXPORT_WIDTH, title: now.label || report.figures[panel.figure].title };
  const drawn = await vegaEmbed(document.createElement("div"), spec, embedOptions("light"));
  const svg = await drawn.view.toSVG();
  drawn.finalize();
  return svg;
}

// One drawing of a figure's panels, one below the other.
async function figureSvg(figure) {
  let height = 0, width = 0;
  const parts = [];
  for (const panel of panels.filter((each) => each.figure === figure)) {
    const svg = new DOMParser().parseFromString(await panelSvg(panel), "image/svg+xml").documentElement;
    svg.setAttribute("y", height);
    height += Number(svg.getAttribute("height")) + 24;
    width = Math.max(width, Number(svg.getAttribute("width")));
    parts.push(new XMLSerializer().serializeToString(svg));
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`
    + `<rect width="100%" height="100%" fill="white"/>${parts.join("")}</svg>`;
}

function csvOf(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const names = [...new Set(rows.flatMap(Object.keys))];
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// All numbers of a figure; where it has several tables, their names are the first column.
function figureRows(figure) {
  const { tables, runs } = report.figures[figure];
  if (runs) return scoreRows(runs);
  const several = Object.keys(tables).length > 1;
  return Object.entries(tables).flatMap(([table, columns]) => rowsOf(columns).map((row) => (several ? { table, ...row } : row)));
}

async function download(button) {
  const figure = button.closest("figure").dataset.figure;
  if (button.dataset.download === "svg") save(`${figure}.svg`, "image/svg+xml", await figureSvg(figure));
  else save(`${figure}.csv`, "text/csv", csvOf(figureRows(figure)));
}
