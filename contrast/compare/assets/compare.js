// The switch between light and dark; the address keeps the choice.
function followAddress() {
  const theme = addressSettings().get("theme");
  if (["light", "dark"].includes(theme)) chooseTheme(theme);
}

labelToggle();
document.getElementById("theme-toggle").addEventListener("click", () => {
  chooseTheme(themeName() === "dark" ? "light" : "dark");
  keepInAddress("theme", themeName());
});
systemDark.addEventListener("change", labelToggle);
window.addEventListener("hashchange", followAddress);
followAddress();
