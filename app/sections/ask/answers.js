
// The page's driver of the above, as `js_on_load` of the cards: follows answers while they are written, then replays them.
// The document that is shown below the cards lights up for the method whose map it shows, or whose word is held.
const TICK_MS = 300;
const glow = makeGlow();
let swiped = 0; // of the cards, which lie side by side on a phone
let asked = false; // answers are written
let replay = null, seen = {}, now = {}, said = {}, queue = [], timer = 0;

const card = (name) => element.querySelector(`.card[data-method="${CSS.escape(name)}"]`);
const shown = () => document.querySelector("#map-document .jq-text");
const chosen = () => document.querySelector("#map-method input:checked")?.value;

function places(words) {
  const text = shown(), own = chosen();
  const below = words[own]?.length ? own : Object.keys(words)[0];
  const sentences = Object.keys(words).flatMap((name) =>
    [...(card(name)?.querySelectorAll("q[data-start]") ?? [])].map((each) => [name, each]));
  return text && below ? [...sentences, [below, text]] : sentences;
}

// Where in the document it is, in one line from beginning to end.
function strips(words) {
  const length = +(element.querySelector("[data-length]")?.dataset.length ?? 0);
  for (const strip of element.querySelectorAll(".strip")) {
    const own = words[strip.closest(".card").dataset.method] ?? [];
    const marks = [];
    for (let at = 0; length && at < own.length; at += 3) {
      const mark = document.createElement("i");
      mark.style.left = `${(100 * own[at]) / length}%`;
      mark.style.opacity = Math.max(0.25, own[at + 2] / own[2]);
      marks.push(mark);
    }
    strip.replaceChildren(...marks);
  }
}

// Scrolls the document's box, not the page, to the strongest word.
function bring(words) {
  const text = shown(), own = words[chosen()] ?? Object.values(words)[0];
  if (!text || !own?.length) return;
  const area = glow.range(text, own[0], own[0] + own[1])?.getBoundingClientRect();
  const around = text.getBoundingClientRect();
  if (!area || around.bottom < 0 || around.top > innerHeight) return;
  if (area.top < around.top + 20 || area.bottom > around.bottom - 20) {
    text.scrollTop += area.top - around.top - around.height / 3;
  }
}

const options = {
  answers: () => Object.fromEntries(
    [...element.querySelectorAll(".card")].map((each) => [each.dataset.method, each.querySelector(".answer")])),
  places,
  glow,
  tell: (words) => { strips(words); if (replay.steady) bring(words); },
};

function next() {
  const frame = queue.shift();
  if (!frame) return;
  for (const [name, [, word, ...words]] of Object.entries(frame)) [said[name], now[name]] = [word, words];
  replay.show(now, said);
}

function follow(live) {
  const fresh = Object.entries(live).map(([name, own]) => {
    if (own.at(-1)[0] < (seen[name] ?? -1)) seen[name] = -1; // another question
    const left = own.filter(([at]) => at > (seen[name] ?? -1));
    seen[name] = own.at(-1)[0];
    return [name, left];
  });
  const longest = Math.max(0, ...fresh.map(([, own]) => own.length));
  for (; queue.length; ) next();
  for (let at = 0; at < longest; at++) {
    queue.push(Object.fromEntries(fresh.filter(([, own]) => at < own.length).map(([name, own]) => [name, own[at]])));
  }
  clearInterval(timer);
  timer = setInterval(next, TICK_MS / Math.max(1, longest));
  replay.show(now, said); // the cards are new elements
  next();
}

// Answers that are being written come into view, where a window is narrow below the status line.
function bringAnswers(cards) {
  const busy = cards?.getAttribute("aria-busy") === "true", { top } = element.getBoundingClientRect();
  if (busy && !asked && top < 0) element.scrollIntoView();
  else if (busy && !asked && top > 0.8 * innerHeight) document.querySelector("#act")?.scrollIntoView();
  asked = busy;
}

function update() {
  const cards = element.querySelector(".cards");
  bringAnswers(cards);
  if (swiped && cards) cards.scrollLeft = swiped; // they are new elements
  const data = element.querySelector("[data-steps], [data-live]");
  replay?.stop();
  if (data?.dataset.live) {
    replay ??= replayGlow(element, {}, options);
    replay.steady = false;
    return follow(JSON.parse(data.dataset.live));
  }
  clearInterval(timer);
  [seen, now, said, queue] = [{}, {}, {}, []];
  replay = data ? replayGlow(element, JSON.parse(data.dataset.steps), options) : null;
  if (!replay) return glow.light([]);
  replay.whole();
  replay.steady = true;
}

element.addEventListener("scroll", (event) => { if (event.target.matches(".cards")) swiped = event.target.scrollLeft; }, true);
element.addEventListener("pointerover", (event) => replay?.steady && replay.onWord(event));
element.addEventListener("click", (event) => replay?.steady && replay.onWord(event));
element.addEventListener("keydown", (event) => replay?.steady && replay.onKey(event));
document.addEventListener("jq-redrawn", () => replay?.steady && replay.again());
watch("value", update);
update();
