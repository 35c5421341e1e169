"use strict";
// Light and dark: the system's choice until the reader makes one, which the address keeps ("#theme=dark").
const report = JSON.parse(document.getElementById("report-data").textContent);

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

function themeName() {
  return document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light");
}

// The address's part after "#" as settings; a plain anchor ("#training") has none.
function addressSettings() {
  return new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
}

function keepInAddress(key, value) {
  const settings = addressSettings();
  settings.set(key, value);
  history.replaceState(null, "", "#" + settings);
}

// A specification or configuration with its "theme:NAME" colours filled in.
function painted(value, name) {
  const colours = report.theme.colours[name];
  return JSON.parse(JSON.stringify(value), (key, part) =>
    typeof part === "string" && part.startsWith("theme:") ? (colours[part.slice(6)] ?? part) : part);
}

function chooseTheme(name) {
  document.documentElement.dataset.theme = name;
  labelToggle();
}

function labelToggle() {
  const next = themeName() === "dark" ? "Light" : "Dark";
  const toggle = document.getElementById("theme-toggle");
  toggle.textContent = next;
  toggle.setAttribute("aria-label", `Switch to the ${next.toLowerCase()} theme`);
  toggle.hidden = false;
}
