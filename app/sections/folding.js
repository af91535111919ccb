// Unfolds a section, and so builds its figures, when a wide screen comes near it or a link names it. Runs as `js_on_load` of
// the gr.HTML with its heading.
const AHEAD = "500px 0px", SETTLED_MS = 4000;
const heading = element.querySelector("[data-fold]"), wide = matchMedia("(min-width: 901px)");
const fold = () => document.getElementById(heading?.dataset.fold);
const button = () => fold()?.querySelector(".label-wrap");

function unfold() {
  if (button() && !button().classList.contains("open")) button().click();
}

const near = new IntersectionObserver(([entry]) => {
  if (!entry.isIntersecting || !wide.matches) return;
  near.disconnect();
  unfold();
}, { rootMargin: AHEAD });

function follow() { // the part of the address that browsers do not send
  if (location.hash !== `#${heading?.dataset.fold}` || !fold()) return;
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
