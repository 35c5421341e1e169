// Start: what the address asks for, then every figure in turn.
async function followAddress() {
  const asked = addressSettings();
  const theme = asked.get("theme"), step = Number(asked.get("step") ?? NaN), scale = asked.get("scale");
  if (["light", "dark"].includes(theme)) chooseTheme(theme);
  if (chosen.steps && Number.isFinite(step)) setStep(step);
  if (chosen.steps && asked.has("negatives")) setSome(asked.get("negatives").split(" "));
  if (chosen.steps && ["linear", "log"].includes(scale)) await setScale(scale);
}

async function start() {
  for (const figure of document.querySelectorAll("[data-figure]")) {
    if (report.figures[figure.dataset.figure].runs) addScorePanels(figure);
    else addFigurePanels(figure);
  }
  for (const button of document.querySelectorAll("[data-download]")) button.addEventListener("click", () => download(button));
  labelToggle();
  document.getElementById("theme-toggle").addEventListener("click", () => {
    chooseTheme(themeName() === "dark" ? "light" : "dark");
    keepInAddress("theme", themeName());
    drawAll();
  });
  systemDark.addEventListener("change", () => { labelToggle(); drawAll(); });
  window.addEventListener("hashchange", () => followAddress().then(drawAll));
  await followAddress();
  await drawAll();
  document.documentElement.dataset.drawn = Math.round(performance.now()); // milliseconds since the page was asked for
}

start();
