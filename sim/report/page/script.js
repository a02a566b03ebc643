// The page: draws charts as they come near, and follows the switches, the sliders and the address.

const byId = id => document.getElementById(id);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const places = all(".chart");
const PHONE = 560, PRINTED = 680, TALLEST = 900, SMALLEST = 210; // pixels; the last three are for A4 paper
let page = null; // charts, sliders, files
let printing = false;

async function unpacked(id) {
  const text = atob(byId(id).textContent), packed = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) packed[place] = text.charCodeAt(place); // much faster than a function for each
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpacked("page-plotly");
  document.head.append(script);
}

// State: what the switches say, in the address behind the anchor, such as #time?percentile=p99.

let anchor = "", state = {}, written = null;

function addressed() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; } // a sign of percent with nothing behind it
}

const within = (slider, value) => Math.min(Math.max(Number(value), slider.low), slider.high);

function read() {
  const [name, rest] = addressed().split("?", 2);
  const asked = new URLSearchParams(rest ?? "");
  anchor = name;
  state = { ...page.initial };
  for (const [key, value] of asked) {
    const known = all("#switches button").some(one => one.dataset.switch === key && one.dataset.value === value);
    const slider = Object.hasOwn(page.sliders, key) ? page.sliders[key] : null;
    if (known) state[key] = value;
    else if (slider && Number.isFinite(Number(value)) && value !== "") state[key] = String(within(slider, value));
  }
}

function write(push) {
  const changed = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== (page.initial[key] ?? "")));
  written = `#${anchor}${changed.size ? "?" + changed : ""}`;
  try {
    if (push) history.pushState(null, "", written); else history.replaceState(null, "", written);
  } catch { /* a page inside another may not have an address */ }
}

// Charts.

const dark = () => !printing && (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function positionOf(chart) {
  const wanted = state[chart.switch] ?? "";
  return Object.hasOwn(chart.views, wanted) ? wanted : Object.keys(chart.views)[0];
}

function setScale(layout, letter, type) {
  for (const key of Object.keys(layout).filter(one => new RegExp(`^${letter}axis\\d*$`).test(one))) {
    const axis = layout[key], was = axis.type ?? "linear";
    if (was === type || was === "category" || was === "date") continue;
    for (const gone of ["range", "tickvals", "ticktext", "tickmode", "dtick", "tick0"]) delete axis[gone];
    axis.type = type;
    const ref = key.replace("axis", ""); // annotations lie in the logarithm on such an axis
    for (const note of layout.annotations ?? [])
      if (note[`${letter}ref`] === ref) note[letter] = type === "log" ? Math.log10(note[letter]) : 10 ** note[letter];
  }
}

const axesOf = layout => Object.keys(layout).filter(one => /^[xy]axis\d*$/.test(one));

// A legend that does not fit into one line has columns as wide as its longest name; the chart keeps its height beside it.
function besides(view, width) { // what names beside the chart take of its width, for which plotly makes room
  const ticks = axesOf(view.layout).filter(key => key.startsWith("y")).flatMap(key => view.layout[key].ticktext ?? []);
  const names = [...view.data.flatMap(one => one.y ?? []), ...ticks].filter(one => typeof one === "string");
  const lines = names.flatMap(one => (width < PHONE ? wrapped(one) : one).split("<br>"));
  return (width < PHONE ? 40 : 60) + Math.max(0, ...lines.map(one => ruler.measureText(one).width));
}

const ruler = document.createElement("canvas").getContext("2d");

function linesOfLegend(view, width) {
  if (view.layout.showlegend === false || view.layout.legend?.orientation !== "h") return 0;
  ruler.font = `${printing ? 9 : width < PHONE ? 10 : view.layout.legend.font?.size ?? 12}px system-ui, sans-serif`;
  const shown = view.data.filter(one => one.showlegend !== false && one.name);
  if (shown.length < 2 && !shown.some(one => one.showlegend)) return 0;
  const widths = shown.map(one => 48 + ruler.measureText(one.name.replace(/<[^>]*>/g, "")).width);
  const total = widths.reduce((sum, one) => sum + one, 0), room = width - besides(view, width);
  return total <= room ? 1 : Math.ceil(shown.length / Math.max(1, Math.floor(room / Math.max(...widths))));
}

const aboveFor = (view, width) => {
  const lines = linesOfLegend(view, width), notes = (view.layout.annotations ?? []).some(one => one.yref === "paper" && one.y >= 1);
  return Math.max(19 * lines + 14, lines || notes ? view.layout.margin?.t ?? 40 : 0);
};

// Panels one above another have titles and names between them, which a print does not make smaller.
const panelsOf = view => axesOf(view.layout).filter(one => one.startsWith("y")).length;
const printedShare = chart => (Object.values(chart.views).some(view => panelsOf(view) > 1) ? 0.66 : chart.height > 600 ? 0.56 : 0.52);

function heightOf(chart, width) {
  const extra = Math.max(...Object.values(chart.views).map(view => aboveFor(view, width) - (view.layout.margin?.t ?? 40)));
  const share = Math.max(printedShare(chart), extra > 60 ? 0.62 : 0); // a long legend has many lines below it, which take room to be told apart
  const height = (printing ? Math.max(Math.min(chart.height, SMALLEST), Math.round(share * chart.height)) : chart.height) + Math.max(0, extra);
  return printing ? Math.min(height, TALLEST) : height;
}

function wrapped(text, most = 15) { // on several lines; text with tags stays as it is
  if (typeof text !== "string" || text.length <= most || text.includes("<")) return text;
  const lines = [""];
  for (const word of text.split(" ")) {
    const joined = `${lines[lines.length - 1]} ${word}`.trim();
    if (joined.length > most && lines[lines.length - 1]) lines.push(word); else lines[lines.length - 1] = joined;
  }
  return lines.join("<br>");
}

function wrapLabels(view) { // names beside a chart take little of a narrow screen
  for (const key of axesOf(view.layout).filter(one => one.startsWith("y"))) {
    const axis = view.layout[key], of = view.data.filter(one => (one.yaxis ?? "y") === key.replace("axis", ""));
    const names = axis.ticktext ? [] : [...new Set(of.flatMap(one => one.y ?? []))];
    if (axis.ticktext) axis.ticktext = axis.ticktext.map(one => wrapped(one));
    else if (names.length && names.every(one => typeof one === "string" && Number.isNaN(Number(one))) && axis.type !== "date")
      Object.assign(axis, { tickmode: "array", tickvals: names, ticktext: names.map(one => wrapped(one)) });
  }
}

function fitted(layout, width, above) {
  const narrow = width < PHONE, ink = dark() ? "#e6e6e6" : "#222222";
  layout.font = { ...layout.font, color: ink, family: "system-ui, sans-serif", size: narrow || printing ? 11 : 13 };
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: dark() ? "#2b2f36" : "#ffffff", font: { color: ink } };
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.width = width;
  if (layout.legend?.orientation === "h") { // over the whole width, also where long names stand beside the chart
    layout.legend = { ...layout.legend, xref: "container", yref: "container", x: 0.005, xanchor: "left", y: 1, yanchor: "top" };
    layout.margin = { ...layout.margin, t: above };
    if (printing) layout.legend.font = { ...layout.legend.font, size: 9 };
  }
  for (const key of axesOf(layout)) {
    const title = layout[key].title;
    if (title?.text) layout[key].title = { ...title, font: { size: narrow ? 12 : 13, ...title.font } };
  }
  if (narrow) {
    layout.dragmode = false; // a finger scrolls the page
    layout.margin = { ...layout.margin, l: Math.min(layout.margin?.l ?? 50, 46), r: Math.min(layout.margin?.r ?? 10, 10) };
    if (layout.legend) layout.legend = { ...layout.legend, font: { ...layout.legend.font, size: 10 } };
    for (const key of axesOf(layout))
      if (!layout[key].tickvals && layout[key].type !== "category") layout[key].nticks = 5;
  }
}

function drawn(place) {
  const chart = page.charts[place.dataset.chart], view = structuredClone(chart.views[positionOf(chart)]);
  const width = printing ? PRINTED : place.clientWidth;
  for (const letter of chart.scales) if (state.scale) setScale(view.layout, letter, state.scale);
  view.layout.height = heightOf(chart, width);
  place.style.height = `${view.layout.height}px`;
  const above = aboveFor(view, width);
  moveLimit(place.dataset.chart, chart, view);
  if (width < PHONE) wrapLabels(view);
  fitted(view.layout, width, above);
  const config = { ...page.config, responsive: false, displayModeBar: false, staticPlot: printing };
  const done = Plotly.react(place, view.data, view.layout, config);
  settle(place, view.layout);
  return done;
}

function settle(place, layout) { // the room above is what the legend takes: how plotly sets it in columns is known once it is drawn
  const drawn = layout.legend?.orientation === "h" && place.querySelector(".legend .bg");
  const more = drawn ? Math.ceil(Number(drawn.getAttribute("height"))) + 12 - layout.margin.t : 0;
  if (Math.abs(more) <= 12) return;
  place.style.height = `${layout.height + more}px`;
  Plotly.relayout(place, { "margin.t": layout.margin.t + more, height: layout.height + more });
}

function keepPlace() { // so that nothing moves when a chart is drawn
  const widths = places.map(place => place.clientWidth);
  places.forEach((place, number) => { place.style.height = `${heightOf(page.charts[place.dataset.chart], widths[number])}px`; });
}

function draw(place) {
  place.dataset.drawn = "yes";
  return drawn(place);
}

function follows(place, changed) { // whether a chart looks otherwise when a switch has changed; without one, after any change
  const chart = page.charts[place.dataset.chart];
  if (!changed) return true;
  if (changed === "scale") return chart.scales.length > 0;
  return chart.switch === changed || changed === "percentile" && Object.values(page.sliders).some(one => one.redraws === place.dataset.chart);
}

const redraw = changed => places.filter(place => place.dataset.drawn && follows(place, changed)).forEach(drawn);

function showViews() {
  for (const place of places) {
    const chart = page.charts[place.dataset.chart], key = positionOf(chart);
    for (const view of all(".view", place.closest("figure"))) view.hidden = view.dataset.view !== key;
    const shown = all(".view", place.closest("figure")).find(view => !view.hidden);
    if (shown) place.setAttribute("aria-describedby", shown.querySelector(".summary").id);
  }
  for (const button of all("#switches button")) button.setAttribute("aria-pressed", String((state[button.dataset.switch] ?? "") === button.dataset.value));
}

// Sliders.

const limitOf = name => state[name] === undefined ? page.sliders[name].value : Number(state[name]);
const shareOf = () => Number((state.percentile ?? "p95").slice(1)) / 100;

function moveLimit(name, chart, view) {
  for (const [key, slider] of Object.entries(page.sliders)) {
    const limit = limitOf(key);
    if (limit === slider.value) continue;
    const shape = view.layout.shapes?.[0], along = chart.threshold;
    if (slider.charts.includes(name) && shape && along) {
      const scale = shape[`${along}0`] / slider.value; // the axis may be in another unit
      shape[`${along}0`] = shape[`${along}1`] = limit * scale;
    }
    if (slider.redraws === name && view.data.length) {
      const judged = slider.curves.map(curve => judgeCurve(slider, curve, shareOf(), limit).within);
      const reach = value => Number.isFinite(value) ? Math.max(value, 0) : 0;
      view.data[0].y = judged.map(one => Number.isFinite(one.value) ? one.value : null);
      view.data[0].error_y = { ...view.data[0].error_y, type: "data", symmetric: false,
        array: judged.map(one => reach(one.high - one.value)), arrayminus: judged.map(one => reach(one.value - one.low)) };
    }
  }
}

function sayLimit(name) {
  const slider = page.sliders[name], limit = limitOf(name), box = byId(name), of = state.percentile ?? "p95";
  const judged = slider.curves.map(curve => judgeCurve(slider, curve, shareOf(), limit));
  box.querySelector(".said").textContent = sentenceOf(slider.curves, judged, of, writePlain(limit, "s", 4));
  for (const id of ["range", "number"]) byId(`${name}--${id}`).value = Number(limit.toPrecision(4));
  sayCurves(box, judged, of);
  for (const id of new Set([...slider.charts, slider.redraws].filter(Boolean))) {
    const note = byId(id).querySelector(".moved");
    note.hidden = limit === slider.value;
    note.textContent = `Drawn for a limit of ${writePlain(limit, "s", 4)}; the words and numbers below are for ${writePlain(slider.value, "s", 4)}.`;
  }
}

function sayCurves(box, judged, of) {
  const table = box.querySelector("table"), heads = all("thead th", table);
  if (!table) return;
  heads[1].firstChild.textContent = `${of} of T_total`;
  for (const row of table.tBodies[0].rows) {
    const one = judged[Number(row.dataset.place)];
    const texts = [writeEstimate(one.value, "s"), Number.isFinite(one.value.low) ? one.verdict : NOTHING, writeEstimate(one.within, "share"), writeChance(one.chance)];
    texts.forEach((text, place) => { row.cells[place + 1].textContent = text; });
  }
  const sorted = heads.findIndex(head => head.hasAttribute("aria-sort"));
  if (sorted >= 0) sortBy(table, sorted, heads[sorted].getAttribute("aria-sort") === "ascending" ? 1 : -1);
}

function watchSlider(name) {
  const slider = page.sliders[name], box = byId(name);
  all("tbody tr", box).forEach((row, place) => { row.dataset.place = place; });
  let waiting = false;
  const set = value => {
    const limit = within(slider, value);
    if (!Number.isFinite(limit) || value === "") return sayLimit(name);
    if (limit === slider.value) delete state[name]; else state[name] = String(limit);
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; follow(name); });
  };
  box.querySelector("input[type=range]").addEventListener("input", event => {
    set(Number((Math.round(event.target.value / slider.step) * slider.step).toPrecision(9)));
  });
  box.querySelector("input[type=number]").addEventListener("change", event => set(event.target.value));
  box.querySelector(".reset").addEventListener("click", () => set(slider.value));
}

function follow(name) {
  sayLimit(name);
  const slider = page.sliders[name], touched = new Set([...slider.charts, slider.redraws]);
  places.filter(place => place.dataset.drawn && touched.has(place.dataset.chart)).forEach(drawn);
  write(false);
}

// All that the state says, shown.

function apply(changed) {
  showViews();
  if (!changed || changed === "percentile") Object.keys(page.sliders).forEach(sayLimit);
  redraw(changed);
}

function go() {
  const target = anchor && byId(anchor);
  if (target) target.scrollIntoView();
}

function listen() {
  for (const button of all("#switches button")) button.addEventListener("click", () => {
    state[button.dataset.switch] = button.dataset.value;
    write(true);
    apply(button.dataset.switch);
  });
  document.addEventListener("click", event => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    anchor = link.getAttribute("href").slice(1);
    write(true);
    go();
    if (link.classList.contains("skip")) byId(anchor).focus();
  });
  addEventListener("popstate", () => { // back, forward, or an address typed
    if (location.hash === written) return;
    const before = anchor;
    written = location.hash;
    read(); apply();
    if (anchor !== before) go();
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width || printing) return;
    width = innerWidth;
    keepPlace();
    redraw();
  });
}

// Paper: charts as wide as it, in dark ink, and short tables open.

function beforePrint() {
  if (printing || !globalThis.Plotly || !page) return;
  printing = true;
  document.documentElement.classList.add("printing");
  places.forEach(draw);
  for (const one of all("details:not([open])")) if (Number(one.dataset.rows) <= 12) { one.open = true; one.dataset.opened = "yes"; }
}

function afterPrint() {
  printing = false;
  document.documentElement.classList.remove("printing");
  for (const one of all("details[data-opened]")) { one.open = false; delete one.dataset.opened; }
  keepPlace();
  redraw();
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  try { sessionStorage.setItem("coordsim-theme", name); } catch { /* a page from disk may not be allowed to keep anything */ }
  byId("theme-switch").setAttribute("aria-pressed", String(name === "dark"));
  if (page) redraw();
}

function startTheme() {
  let kept = null;
  try { kept = sessionStorage.getItem("coordsim-theme"); } catch { /* as above */ }
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  byId("theme-switch").setAttribute("aria-pressed", String(dark()));
  byId("theme-switch").addEventListener("click", () => setTheme(dark() ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page && redraw());
}

function startPieces() {
  if (innerWidth < PHONE) document.querySelector("#contents details").open = false;
  all("main table").forEach(makeSortable);
  for (const button of all("button.copy")) button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(button.parentElement.querySelector("code")); button.textContent = "Selected"; }
  });
  for (const button of all("button.only-given")) button.addEventListener("click", () => {
    const only = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(only));
    button.parentElement.classList.toggle("only", only);
  });
  for (const button of all("button.picture-of")) button.addEventListener("click", () => {
    const place = byId(button.dataset.of).querySelector(".chart");
    Plotly.downloadImage(place, { format: "svg", filename: button.dataset.of, width: place.clientWidth, height: place.clientHeight });
  });
  for (const button of all("button.whole")) button.addEventListener("click", () => drawn(byId(button.dataset.of).querySelector(".chart")));
  for (const button of all("button.download")) button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([page.files[button.dataset.file]]));
    link.download = button.dataset.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// Whoever prints a page as soon as it has loaded must find the charts: a frame that is not closed holds the load event back.
function holdLoad() {
  const frame = document.createElement("iframe");
  frame.hidden = true;
  frame.title = "empty";
  document.body.append(frame);
  frame.contentDocument.open();
  return () => { frame.contentDocument.close(); frame.remove(); };
}

startTheme();
startPieces();
const letLoad = holdLoad();
try {
  const data = unpacked("page-data");
  await loadPlotly();
  page = JSON.parse(await data);
  read();
  Object.keys(page.sliders).forEach(watchSlider);
  listen();
  showViews();
  Object.keys(page.sliders).forEach(sayLimit);
  keepPlace();
  go();
  const watch = new IntersectionObserver(entries => {
    for (const entry of entries.filter(one => one.isIntersecting)) { watch.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });
  places.forEach(place => watch.observe(place));
  addEventListener("beforeprint", beforePrint);
  addEventListener("afterprint", afterPrint);
  if (matchMedia("print").matches) beforePrint();
  document.documentElement.dataset.ready = "yes";
} catch (error) {
  places.forEach(place => { place.textContent = "The charts could not be drawn; they need a browser of 2023 or later. " + error; });
  throw error;
} finally {
  letLoad();
}
