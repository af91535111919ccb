// The heatmap by keyboard: arrow keys go from region to region, Enter shows its words in the document. Runs as `js_on_load`
// of the line below the figure, which says where the keys are.
const map = element.closest("#map") ?? document.querySelector("#map"), figure = map.querySelector("#map-heatmap");
const line = element.querySelector("p"), cursor = Object.assign(document.createElement("i"), { className: "region" });
let [layer, bin] = [0, 0];

const plot = () => figure.querySelector(".js-plotly-plot");
const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);

function tell() {
  const values = plot().data[0].z, area = figure.querySelector(".heatmaplayer image").getBoundingClientRect();
  const around = figure.getBoundingClientRect(), [told, words] = map.region?.(layer, bin) ?? [];
  const wide = area.width / values[0].length, high = area.height / values.length;
  figure.append(cursor); // Plotly draws anew with each figure
  Object.assign(cursor.style, {
    left: `${area.left - around.left + bin * wide}px`, top: `${area.top - around.top + layer * high}px`,
    width: `${wide}px`, height: `${high}px`,
  });
  const kept = map.querySelector("#map-metric input:checked")?.value === "kept" ? values[layer][bin] : null;
  line.textContent = [told, kept === null ? "" : `${Math.round(100 * kept)} % kept.`, words].filter(Boolean).join(" ");
}

function onKey(event) {
  if (event.target !== figure || !plot()?.data || event.ctrlKey || event.metaKey || event.altKey) return;
  const [layers, bins] = [plot().data[0].z.length, plot().data[0].z[0].length], far = event.shiftKey ? 10 : 1;
  if (event.key === "Enter") map.showRegion?.({ y: layer, pointIndex: [layer, bin] });
  else if (event.key === "ArrowLeft" || event.key === "ArrowRight") bin += event.key === "ArrowLeft" ? -far : far;
  else if (event.key === "ArrowUp" || event.key === "ArrowDown") layer += event.key === "ArrowUp" ? -1 : 1;
  else if (event.key === "Home" || event.key === "End") bin = event.key === "Home" ? 0 : bins;
  else return;
  [layer, bin] = [clamp(layer, layers), clamp(bin, bins)];
  if (event.key !== "Enter") tell();
  event.preventDefault();
}

figure.tabIndex = 0;
figure.setAttribute("role", "application");
figure.setAttribute("aria-label", line.dataset.label);
figure.addEventListener("keydown", onKey);
figure.addEventListener("focus", () => figure.matches(":focus-visible") && plot()?.data && tell());
figure.addEventListener("blur", () => { cursor.remove(); line.textContent = ""; });
