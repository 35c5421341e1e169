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

// What a figure without panels shows on the page, pictures, curves and words each where they stand, in light colours.
function shownSvg(element) {
  const space = "http://www.w3.org/2000/svg";
  const theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light"; // back before anything is painted
  const { left, top, width, height } = element.getBoundingClientRect();
  const svg = document.createElementNS(space, "svg");
  const set = (part, values) => { for (const [name, value] of Object.entries(values)) part.setAttribute(name, value); return part; };
  const add = (name, values) => svg.appendChild(set(document.createElementNS(space, name), values));
  const placed = (box) => ({ x: box.left - left, y: box.top - top, width: box.width, height: box.height });
  set(svg, { viewBox: `0 0 ${width} ${height}`, width, height });
  add("rect", { width, height, fill: "white" });
  for (const image of element.querySelectorAll("img")) {
    const box = placed(image.getBoundingClientRect()), border = getComputedStyle(image).borderTopColor;
    add("image", { ...box, href: image.src });
    if (image.closest(".query, .false")) add("rect", { ...box, fill: "none", stroke: border, "stroke-width": 3 });
  }
  for (const curve of element.querySelectorAll("svg.spark"))
    svg.append(set(curve.cloneNode(true), { ...placed(curve.getBoundingClientRect()), color: getComputedStyle(curve).color }));
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, style = getComputedStyle(text.parentElement);
    if (text.parentElement.closest("svg, .downloads")) continue;
    for (const { 0: word, index } of text.data.matchAll(/\S+/g)) { // by the word: lines wrap
      const range = document.createRange();
      range.setStart(text, index);
      range.setEnd(text, index + word.length);
      const box = placed(range.getBoundingClientRect());
      const font = { "font-family": style.fontFamily, "font-size": style.fontSize, "font-weight": style.fontWeight };
      add("text", { x: box.x, y: box.y + 0.8 * box.height, ...font, fill: style.color }).textContent = word;
    }
  }
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  return new XMLSerializer().serializeToString(svg);
}

// One drawing of a figure's panels, one below the other.
async function figureSvg(figure) {
  if (!panels.some((each) => each.figure === figure)) return shownSvg(document.getElementById(figure));
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
