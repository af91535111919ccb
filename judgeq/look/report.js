document.documentElement.classList.remove("no-js");
// Of the panels of a choice, the one is shown that answers all its questions.
for (const box of document.querySelectorAll(".chosen")) {
  const show = () => {
    const picked = [...box.querySelectorAll("input:checked")].map((input) => input.value);
    for (const panel of box.querySelectorAll("[data-panel]"))
      panel.hidden = panel.dataset.panel !== picked.join(" ");
  };
  box.addEventListener("change", show);
  show();
}
// Figures are drawn one after another while the browser has time.
const left = [...document.querySelectorAll(".plot")];
const later = window.requestIdleCallback || ((work) => setTimeout(work, 1));
const options = {responsive: true, displaylogo: false, modeBarButtons: [["toImage"]]};
const draw = () => {
  const box = left.shift();
  if (!box) { document.documentElement.dataset.drawn = "all"; return; }
  const figure = JSON.parse(document.getElementById(box.dataset.figure).textContent);
  const bar = box.closest("figure.small") ? false : "hover";
  Plotly.newPlot(box, figure.data, figure.layout, {...options, displayModeBar: bar}).then(() => later(draw));
};
later(draw);
