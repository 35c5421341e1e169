// The bar above a served page: where the runs are, and how many rows have come since the page was made.
const served = document.querySelector(".served");
const EVERY = 3000, PATIENCE = 8000, REST = 10000; // milliseconds: between questions, for an answer, before a refresh by itself
const trained = ["starting", "running", "silent"];
let servedTag = "", pressed = false;

const part = (name) => document.getElementById(`served-${name}`);

function element(tag, className, text) {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

function shownRun(run, several) {
  const item = document.createElement("li");
  if (several) item.append(element("strong", "", run.name));
  item.append(element("span", `standing ${run.standing}`, run.standing));
  if (run.share !== null) item.append(Object.assign(document.createElement("progress"), { max: 1, value: run.share, ariaLabel: `${Math.round(100 * run.share)} % done` }));
  item.append(element("span", "", several && run.share !== null ? `${Math.round(100 * run.share)} %` : run.words));
  if (run.note && !several) item.append(element("span", "note", run.note));
  item.title = [run.words, run.note].filter(Boolean).join(" · ");
  return item;
}

function showState({ runs, rows }) {
  part("runs").replaceChildren(...runs.map((run) => shownRun(run, runs.length > 1)));
  const more = rows - Number(served.dataset.rows), trains = runs.some((run) => trained.includes(run.standing));
  part("words").textContent = more > 0 ? `new rows: ${more.toLocaleString("en")}` : trains ? "no new rows yet" : "";
  part("refresh").hidden = more === 0;
  part("following").hidden = !trains && more === 0;
  const rested = performance.now() > REST && "drawn" in document.documentElement.dataset;
  if (more !== 0 && part("follow").checked && rested && !pressed && !document.hidden) location.reload();
}

async function askState() {
  try {
    const answer = await fetch(`/state.json?${served.dataset.query}`, { headers: { "If-None-Match": servedTag }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 404) { part("words").textContent = "this run was deleted: the page shows its last state"; return false; }
    if (answer.status === 200) { servedTag = answer.headers.get("ETag"); served.latest = await answer.json(); }
    if (served.latest) showState(served.latest);
  } catch (error) {
    part("words").textContent = "no answer from the dashboard: it was stopped, or the connection is lost";
  }
  return true;
}

async function followState() {
  if (document.hidden || await askState()) setTimeout(followState, EVERY);
}

// Back to the list as it was, in the theme that is shown here.
function backAddress() {
  const settings = new URLSearchParams((sessionStorage.getItem("contrast-list") ?? "").slice(1));
  const theme = addressSettings().get("theme");
  if (theme) settings.set("theme", theme);
  return settings.size ? `/#${settings}` : "/";
}

part("follow").checked = sessionStorage.getItem("contrast-follow") === "yes";
part("follow").addEventListener("change", () => sessionStorage.setItem("contrast-follow", part("follow").checked ? "yes" : "no"));
part("refresh").addEventListener("click", () => location.reload()); // the address, and so the slider's place, stays
for (const link of [part("back")]) for (const kind of ["pointerdown", "focus"]) link.addEventListener(kind, () => { link.href = backAddress(); });
// Not under somebody's hand.
window.addEventListener("pointerdown", () => { pressed = true; });
window.addEventListener("pointerup", () => { pressed = false; });
window.addEventListener("pointercancel", () => { pressed = false; });
followState();
