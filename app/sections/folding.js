// Unfolds a section, and so builds its figures, when a wide screen comes near it or a link names it. Runs as `js_on_load` of
// the gr.HTML with its heading.
const AHEAD = "500px 0px", SETTLED_MS = 4000, STAYS_MS = 500, AGAIN_MS = 200;
const heading = element.querySelector("[data-fold]"), wide = matchMedia("(min-width: 901px)");
const fold = () => document.getElementById(heading?.dataset.fold);
const button = () => fold()?.querySelector(".label-wrap");

let waiting, staying;

function unfold() { // until it is open: while the page loads the button may not be there yet, or not listen yet
  clearTimeout(waiting);
  if (button()?.classList.contains("open")) return near.disconnect();
  button()?.click();
  waiting = setTimeout(unfold, AGAIN_MS);
}

const near = new IntersectionObserver(([entry]) => { // what comes near and stays: the parts above are still growing
  clearTimeout(staying);
  if (entry.isIntersecting && wide.matches) staying = setTimeout(unfold, STAYS_MS);
}, { rootMargin: AHEAD });

function follow() { // the part of the address that browsers do not send
  if (location.hash !== `#${heading?.dataset.fold}`) return;
  unfold();
  const growing = new ResizeObserver(() => heading.scrollIntoView()); // what is above comes later
  growing.observe(document.body);
  const settled = () => growing.disconnect();
  setTimeout(settled, SETTLED_MS);
  addEventListener("wheel", settled, { once: true, passive: true });
  addEventListener("touchmove", settled, { once: true, passive: true });
}

function tell() { // Gradio's buttons do not say whether they are open
  for (const each of document.querySelectorAll(".label-wrap")) {
    each.setAttribute("aria-expanded", each.classList.contains("open"));
  }
}

if (heading) {
  near.observe(heading);
  wide.addEventListener("change", () => { near.disconnect(); near.observe(heading); });
  addEventListener("hashchange", follow);
  document.addEventListener("click", () => setTimeout(tell));
  setTimeout(() => { follow(); tell(); });
}
