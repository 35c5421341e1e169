"use strict";
// The list: follows the runs, and filters, sorts and chooses among them. The address keeps filter and order.
const EVERY = 2500, PATIENCE = 8000; // milliseconds between questions, and for an answer
const rows = document.getElementById("rows");
const find = (name) => document.getElementById(name);
const orders = [...document.querySelectorAll("[data-sort]")].map((head) => ({ key: head.dataset.sort, head, label: head.textContent }));
const DOWN_FIRST = ["share", "accuracy", "changed"];
const stamps = new Map();
let tag = "", ahead = 0, answered = Date.now();

// --- rows ---

function rowFrom(html) {
  const template = document.createElement("template");
  template.innerHTML = html; // escaped by the server
  return template.content.querySelector("tr");
}

// Put in the place of an old row; what was ticked stays ticked, and the focus where it was.
function replaceRow(old, fresh) {
  const part = old.contains(document.activeElement) ? document.activeElement.dataset.part : null;
  fresh.querySelector("[data-part=tick]").checked = old.querySelector("[data-part=tick]").checked;
  old.replaceWith(fresh);
  if (part) fresh.querySelector(`[data-part=${part}]`).focus();
  if (old.dataset.standing !== fresh.dataset.standing) tell(`${fresh.dataset.name}: ${fresh.dataset.standing}`);
}

// Rows as the server has them: changed rows are built again, the others are kept.
function take(runs) {
  const shown = new Map([...rows.children].map((row) => [row.dataset.name, row]));
  for (const { name, stamp, html } of runs) {
    const old = shown.get(name);
    shown.delete(name);
    if (old && stamps.get(name) === stamp) continue;
    if (old) replaceRow(old, rowFrom(html));
    else { rows.append(rowFrom(html)); tell(`New run: ${name}`); }
    stamps.set(name, stamp);
  }
  for (const [name, row] of shown) { row.remove(); stamps.delete(name); }
  arrange(runs.map((run) => run.name));
}

function tell(words) { find("news").textContent = words; }

// --- filter and order, both out of the address ---

let served = []; // names in the server's order: what trains first

function arrange(names = served) {
  served = names;
  const settings = addressSettings();
  const words = (settings.get("filter") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const order = orders.find(({ key }) => key === settings.get("sort")) ?? null;
  const all = [...rows.children];
  for (const row of all) {
    const text = `${row.dataset.name} ${row.dataset.facts} ${row.dataset.standing} ${row.dataset.finding}`.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  const place = new Map(served.map((name, at) => [name, at]));
  const sorted = all.toSorted((one, other) => (order && compareBy(order.key, one, other, settings.has("down")))
    || place.get(one.dataset.name) - place.get(other.dataset.name));
  if (sorted.some((row, at) => row !== rows.children[at])) {
    const focused = document.activeElement;
    rows.append(...sorted);
    if (rows.contains(focused)) focused.focus();
  }
  showOrder(order, settings.has("down"));
  showCounts(all);
  find("filter").value = document.activeElement === find("filter") ? find("filter").value : settings.get("filter") ?? "";
}

// Numbers by value, those that are missing last either way; the rest as text, "run 10" after "run 9".
function compareBy(key, one, other, down) {
  const [first, second] = [one.dataset[key], other.dataset[key]];
  if (!first || !second) return (first ? 0 : 1) - (second ? 0 : 1);
  const rising = DOWN_FIRST.includes(key) ? first - second : first.localeCompare(second, "en", { numeric: true });
  return down ? -rising : rising;
}

function showOrder(order, down) {
  for (const { head } of orders) head.removeAttribute("aria-sort");
  order?.head.setAttribute("aria-sort", down ? "descending" : "ascending");
  find("order").value = order ? order.key + (down ? " down" : "") : "";
}

function showCounts(all) {
  const shown = all.filter((row) => !row.hidden).length;
  find("count").textContent = shown === all.length ? `${all.length} ${all.length === 1 ? "run" : "runs"}` : `${shown} of ${all.length} runs`;
  find("none").hidden = all.length > 0;
  find("filtered").hidden = all.length === 0 || shown > 0;
  find("table").hidden = shown === 0;
  showTicks();
}

function showTicks() {
  const ticked = rows.querySelectorAll("[data-part=tick]:checked").length;
  find("compare").disabled = ticked < 2;
  find("compare").textContent = ticked > 1 ? `Compare ${ticked} runs` : "Compare";
  find("hint").hidden = ticked > 1;
}

function keepSettings(changes) {
  const settings = addressSettings();
  for (const [key, value] of Object.entries(changes)) value ? settings.set(key, value) : settings.delete(key);
  history.replaceState(null, "", settings.size ? "#" + settings : location.pathname);
  remember();
  arrange();
}

// For the way back from a run's page, and there for the theme.
function remember() {
  sessionStorage.setItem("contrast-list", location.hash);
  const theme = addressSettings().get("theme");
  for (const link of rows.querySelectorAll("[data-part=link]")) link.hash = theme ? `theme=${theme}` : "";
  find("runs").action = theme ? `/compare#theme=${theme}` : "/compare";
}

// Each press goes on: the natural way, the other way, the server's order.
function sortBy(key) {
  const settings = addressSettings(), first = DOWN_FIRST.includes(key) ? "1" : "";
  if (settings.get("sort") !== key) keepSettings({ sort: key, down: first });
  else if ((settings.get("down") ?? "") === first) keepSettings({ down: first ? "" : "1" });
  else keepSettings({ sort: "", down: "" });
}

// --- time ---

function ago(seconds) {
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86400)} d ago`;
}

function showTimes() {
  for (const time of rows.querySelectorAll("time")) {
    time.title ||= time.textContent;
    time.textContent = ago((Date.now() - ahead) / 1000 - time.dataset.since);
  }
}

// --- the server ---

async function ask() {
  try {
    const answer = await fetch("/runs.json", { headers: { "If-None-Match": tag }, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok && answer.status !== 304) throw new Error(`it answered ${answer.status}`);
    ahead = Math.abs(Date.now() - Date.parse(answer.headers.get("Date"))) > 5000 ? Date.now() - Date.parse(answer.headers.get("Date")) : 0;
    if (answer.status === 200) { take((await answer.json()).runs); tag = answer.headers.get("ETag"); }
    answered = Date.now();
    find("lost").hidden = true;
  } catch (error) {
    lose();
  }
  remember();
  showTimes();
}

function lose() {
  if (!find("lost").hidden) return;
  find("lost").textContent = `The dashboard has not answered since ${new Date(answered).toLocaleTimeString()}: it was stopped, or the connection is lost. The page shows the state at that time. This page goes on by itself once it is back.`;
  find("lost").hidden = false;
}

async function follow() {
  if (!document.hidden) await ask();
  setTimeout(follow, EVERY);
}

function start() {
  const theme = addressSettings().get("theme");
  if (["light", "dark"].includes(theme)) chooseTheme(theme);
  labelToggle();
  find("theme-toggle").addEventListener("click", () => { chooseTheme(themeName() === "dark" ? "light" : "dark"); keepSettings({ theme: themeName() }); });
  systemDark.addEventListener("change", labelToggle);
  find("order").append(new Option("runs in training first, then the newest", ""));
  for (const { key, head, label } of orders) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.addEventListener("click", () => sortBy(key));
    head.replaceChildren(button);
    const ways = key === "changed" ? ["newest first", "oldest first"] : ["highest first", "lowest first"];
    if (DOWN_FIRST.includes(key)) find("order").append(new Option(`${label}, ${ways[0]}`, `${key} down`), new Option(`${label}, ${ways[1]}`, key));
    else find("order").append(new Option(label, key), new Option(`${label}, from the end`, `${key} down`));
  }
  find("order").addEventListener("change", () => { const [sort, down] = find("order").value.split(" "); keepSettings({ sort, down: down ? "1" : "" }); });
  find("filter").addEventListener("input", () => keepSettings({ filter: find("filter").value.trim() }));
  find("clear").addEventListener("click", () => { find("filter").value = ""; keepSettings({ filter: "" }); find("filter").focus(); });
  rows.addEventListener("change", showTicks);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  window.addEventListener("hashchange", () => arrange());
  const written = document.createNodeIterator(rows, NodeFilter.SHOW_COMMENT);
  for (let note = written.nextNode(); note; note = written.nextNode()) stamps.set(note.nextElementSibling.dataset.name, note.data);
  arrange([...rows.children].map((row) => row.dataset.name));
  setInterval(showTimes, 1000);
  follow();
}

start();
