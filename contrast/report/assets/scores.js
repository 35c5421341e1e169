// Score densities: the charts' rows out of the counts, and the slider that links them.
const PAIRINGS = ["positive", "negative"];
const chosen = { step: 0, scale: "linear", some: ["hardest"] };

// What a run's histogram shows: both kinds of pairs, and of the negatives' parts those that are ticked.
function shownOf(run, at) {
  return [...PAIRINGS, ...run.some.filter((name) => chosen.some.includes(name))].filter((name) => run[name].counts[at]);
}

// Densities of one histogram: shares over bin widths, so that they integrate to one.
function densities(counts, edges) {
  const sum = counts.reduce((total, count) => total + count, 0);
  return counts.map((count, bin) => count / (sum * (edges[bin + 1] - edges[bin])));
}

// Cells of a heat map: a snapshot's column reaches half-way to its neighbours; empty bins have no cell.
function cellsOf(run, pairs) {
  const { step, edges } = run;
  const rows = [];
  run[pairs].counts.forEach((counts, at) => {
    if (!counts) return;
    const from = at > 0 ? (step[at - 1] + step[at]) / 2 : step[at];
    const to = at + 1 < step.length ? (step[at] + step[at + 1]) / 2 : step[at] + (step.length > 1 ? 0 : 1);
    densities(counts, edges).forEach((density, bin) => {
      if (density > 0) rows.push({ step: step[at], from, to, low: edges[bin], high: edges[bin + 1], density });
    });
  });
  return rows;
}

function meansOf(run) {
  return run.step.map((step, at) => ({ step, positive: run.positive.mean[at], negative: run.negative.mean[at] }));
}

// The last snapshot of a run that is not after the chosen step; its first where all are.
function placeIn(run) {
  const after = run.step.findIndex((step) => step > chosen.step);
  return after === -1 ? run.step.length - 1 : Math.max(0, after - 1);
}

// Both histograms of a snapshot; a log scale has no zero, so half of the least density there is stands for it.
function histogramOf(run, least, top = Infinity) {
  const at = placeIn(run);
  const histogram = [], centres = [], beyond = [];
  for (const pairs of shownOf(run, at)) {
    const shown = densities(run[pairs].counts[at], run.edges).map((density) => Math.max(density, least));
    const first = run[pairs].counts[at].findIndex((count) => count > 0), last = run[pairs].counts[at].findLastIndex((count) => count > 0);
    const add = (bin, density) => histogram.push({ pairs, low: run.edges[bin], density });
    add(first, least);
    for (let bin = first; bin <= last; bin++) add(bin, shown[bin]);
    add(last + 1, least);
    if (run[pairs].mean[at] !== null) centres.push({ pairs, mean: run[pairs].mean[at] });
    const peak = Math.max(...shown);
    if (peak > top) beyond.push({ pairs, low: run.edges[shown.indexOf(peak)], label: `▲ ${peak.toFixed(peak < 10 ? 1 : 0)}` });
  }
  return { histogram, centres, beyond };
}

// Every count of every snapshot, for the CSV.
function scoreRows(runs) {
  const sides = runs.flatMap((run) => [...PAIRINGS, ...run.some].map((pairs) => ({ run, pairs })));
  return sides.flatMap(({ run, pairs }) => run[pairs].counts.flatMap((counts, at) => (counts ?? []).map((count, bin) => (
    { run: run.name, step: run.step[at], epoch: run.epoch[at], pairs, low: run.edges[bin], high: run.edges[bin + 1], count }))));
}

function addMapPanel(host, name, run, { spec, label }) {
  const fixed = { cells: cellsOf(run, host.dataset.chart), means: meansOf(run) };
  const here = () => [{ step: run.step[placeIn(run)] }];
  const panel = addPanel(host, name, () => ({ spec, label: `${run.name}: ${label}`, datasets: { ...fixed, chosen: here() } }));
  panel.follow = () => panel.view?.data("chosen", here()).runAsync();
  const choose = (event) => {
    if (!panel.view || event.buttons !== 1) return;
    const left = host.querySelector("canvas").getBoundingClientRect().left + panel.view.origin()[0];
    chooseStep(panel.view.scale("x").invert(event.clientX - left));
  };
  host.addEventListener("pointerdown", choose);
  host.addEventListener("pointermove", choose);
}

function addHistogramPanel(host, name, run) {
  const { charts, floor } = report.figures[name];
  const rows = () => histogramOf(run, chosen.scale === "log" ? floor : 0, topOf(name));
  const panel = addPanel(host, name, () => {
    const { spec, label } = charts[chosen.scale];
    const now = { top: topOf(name), shown: shownOf(run, placeIn(run)) };
    const params = spec.params.map((each) => ({ ...each, value: now[each.name] }));
    return { spec: { ...spec, params }, label: `${run.name}: ${label} ${run.step[placeIn(run)]}`, datasets: rows() };
  });
  panel.follow = () => {
    const { histogram, centres, beyond } = rows();
    panel.view?.signal("top", topOf(name)).signal("shown", shownOf(run, placeIn(run))).data("histogram", histogram).data("centres", centres).data("beyond", beyond).runAsync();
  };
  panel.scaled = true;
}

// The histograms' common top: this step's highest peak, but at most `far` times the lowest of the runs' own, so
// that one collapsed run does not flatten the others. Of one run the figure's own top, which stays from step to step.
function topOf(name) {
  const { runs, peak, far } = report.figures[name];
  const peaks = runs.map((run) => histogramOf(run, 0).histogram.reduce((most, row) => Math.max(most, row.density), 0));
  if (runs.length === 1) return 1.08 * Math.max(peak, peaks[0]);
  return 1.08 * Math.min(Math.max(...peaks), far * Math.min(...peaks));
}

const asNumber = (value, digits) => (value === null ? "—" : value.toFixed(digits));

function readout(run, names) {
  const at = placeIn(run);
  const words = shownOf(run, at).map((pairs) =>
    `<span data-pairs="${pairs}">${names[pairs] ?? `${pairs}s`} <b>${asNumber(run[pairs].mean[at], 3)}</b> ± ${asNumber(run[pairs].std[at], 3)} of ${run[pairs].counts[at].reduce((sum, count) => sum + count, 0).toLocaleString("en")}</span>`);
  const [mine, other] = PAIRINGS.map((pairs) => ({ mean: run[pairs].mean[at], std: run[pairs].std[at] }));
  if (mine.mean === null || other.mean === null) return words.join("");
  const gap = mine.mean - other.mean;
  words.push(`<span>gap of the means <b>${gap.toFixed(3)}</b></span>`);
  const spread = Math.sqrt((mine.std ** 2 + other.std ** 2) / 2);
  if (mine.std !== null && other.std !== null && spread > 0) words.push(`<span>d′ <b>${(gap / spread).toFixed(2)}</b></span>`);
  return words.join("");
}

// The slider walks over the steps of all runs; a run in between shows its last snapshot.
function addScorePanels(element) {
  const name = element.dataset.figure;
  const { charts, runs, names } = report.figures[name];
  for (const part of element.querySelectorAll("[data-run]")) {
    for (const host of part.querySelectorAll("[data-chart]")) {
      const run = runs[part.dataset.run];
      if (host.dataset.chart === "histogram") addHistogramPanel(host, name, run);
      else addMapPanel(host, name, run, charts[host.dataset.chart]);
    }
  }
  const slider = element.querySelector("#step");
  const steps = [...new Set(runs.flatMap((run) => run.step))];
  slider.max = steps.length - 1;
  slider.addEventListener("input", () => chooseStep(steps[slider.value]));
  for (const radio of element.querySelectorAll("[name=density-scale]")) radio.addEventListener("change", () => chooseScale(radio.value));
  for (const box of element.querySelectorAll("[name=some-negatives]")) box.addEventListener("change", () => chooseSome(box));
  chosen.steps = steps;
  chosen.show = () => {
    const place = steps.indexOf(chosen.step);
    const epoch = runs.map((run) => run.epoch[run.step.indexOf(chosen.step)]).find((each) => each !== undefined && each !== null);
    const words = chosen.step.toLocaleString("en") + (epoch === undefined ? "" : ` · epoch ${epoch + 1}`);
    slider.value = place;
    slider.setAttribute("aria-valuetext", `step ${words}`);
    element.querySelector("#step-shown").textContent = words;
    for (const part of element.querySelectorAll("[data-run]")) {
      const run = runs[part.dataset.run];
      part.querySelector("[data-shown=step]").textContent = run.step[placeIn(run)].toLocaleString("en");
      part.querySelector("[data-shown=numbers]").innerHTML = readout(run, names); // numbers and names of ours: nothing to escape
      // The page's policy refuses style attributes in HTML, and allows this.
      for (const each of part.querySelectorAll("[data-pairs]")) each.style.setProperty("--colour", `var(--${each.dataset.pairs})`);
    }
    for (const panel of panels) panel.follow?.();
  };
  setStep(steps.at(-1));
}

function setStep(step) {
  const nearest = (best, each) => (Math.abs(each - step) < Math.abs(best - step) ? each : best);
  chosen.step = chosen.steps.reduce(nearest);
  chosen.show();
}

function chooseStep(step) {
  setStep(step);
  keepInAddress("step", chosen.step);
}

function setScale(scale) {
  chosen.scale = scale;
  for (const radio of document.querySelectorAll("[name=density-scale]")) radio.checked = radio.value === scale;
  return drawAll((panel) => panel.scaled && panel.view);
}

function chooseScale(scale) {
  keepInAddress("scale", scale);
  return setScale(scale);
}

function setSome(names) {
  chosen.some = names;
  for (const box of document.querySelectorAll("[name=some-negatives]")) box.checked = names.includes(box.value);
  chosen.show();
}

function chooseSome(box) {
  setSome([...chosen.some.filter((name) => name !== box.value), ...(box.checked ? [box.value] : [])]);
  keepInAddress("negatives", chosen.some.join(" "));
}
