// Lights the words of a text that an answer attends to: with CSS highlights, so that no element is changed however long the
// text is. Positions are UTF-16 units in the text of an element; a word is three numbers: start, length, attention.
function makeGlow() {
  const LEVELS = ["jq-glow-1", "jq-glow-2", "jq-glow-3"];
  let known = new Map(); // texts as they are during one call of `light`: pages change nodes in place

  function nodesOf(element) {
    if (!known.has(element)) {
      const nodes = [], firsts = [], walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
      let position = 0;
      for (; walker.nextNode(); position += walker.currentNode.length) {
        nodes.push(walker.currentNode);
        firsts.push(position);
      }
      known.set(element, { nodes, firsts, length: position });
    }
    return known.get(element);
  }

  function at(firsts, position) {
    let low = 0, high = firsts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (firsts[middle] <= position) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  // The range of a stretch of an element's text, null where it has nothing of it.
  function range(element, start, end) {
    const { nodes, firsts, length } = nodesOf(element);
    [start, end] = [Math.max(start, 0), Math.min(end, length)];
    if (start >= end) return null;
    const found = document.createRange(), from = at(firsts, start), to = at(firsts, end - 1);
    found.setStart(nodes[from], start - firsts[from]);
    found.setEnd(nodes[to], end - firsts[to]);
    return found;
  }

  // Several tokens as one: the mean of what they light, the strongest word first.
  function merged(steps) {
    const sums = new Map();
    for (const [, ...words] of steps) {
      for (let at = 0; at < words.length; at += 3) {
        const before = sums.get(words[at])?.[2] ?? 0;
        sums.set(words[at], [words[at], words[at + 1], before + words[at + 2] / steps.length]);
      }
    }
    return [...sums.values()].sort((one, other) => other[2] - one[2]).slice(0, 8).flat();
  }

  // Lights words in several elements at once: pairs of an element, where its text begins, and the words.
  function light(places, said = []) {
    known = new Map();
    if (!window.CSS?.highlights) return;
    const lit = LEVELS.map(() => []);
    for (const [element, begins, words] of places) {
      for (let at = 0; at < words.length; at += 3) {
        const share = words[at + 2] / words[2], start = words[at] - begins;
        const found = range(element, start, start + words[at + 1]);
        if (found) lit[share > 0.6 ? 2 : share > 0.3 ? 1 : 0].push(found);
      }
    }
    LEVELS.forEach((name, level) => CSS.highlights.set(name, new Highlight(...lit[level])));
    CSS.highlights.set("jq-said", new Highlight(...said.map((word) => {
      const found = document.createRange();
      found.selectNodeContents(word);
      return found;
    })));
  }

  return { light, merged, range };
}

// A replay: a slider over the tokens of one or several answers, a button that plays them, and words that can be held.
// `steps`: for each answer its tokens, each the index of its word and the words that it lights. `answers` gives the element
// of each answer, whose words are spans with `data-word`; `places` pairs of an answer and an element of the document's text,
// the beginning of which is in `data-start`.
function replayGlow(root, steps, { answers, places, tell = () => {}, every = 260, glow = makeGlow() }) {
  const slider = root.querySelector(".jq-replay input"), label = root.querySelector(".jq-replay output");
  const button = root.querySelector(".jq-replay button");
  const longest = Math.max(1, ...Object.values(steps).map((own) => own.length));
  let timer = 0, held = null, last = [{}, {}];

  function show(words, said) { // words and spoken words by answer
    last = [words, said];
    const elements = answers();
    const marked = Object.entries(said).flatMap(([name, word]) => {
      const found = elements[name]?.querySelector(`[data-word="${word}"]`);
      return found ? [found] : [];
    });
    glow.light(places(words).flatMap(([name, element]) =>
      words[name]?.length && element ? [[element, +(element.dataset.start ?? 0), words[name]]] : []), marked);
    tell(words);
  }

  function token(at) {
    const words = {}, said = {};
    for (const [name, own] of Object.entries(steps)) {
      if (at >= own.length) continue;
      [said[name], words[name]] = [own[at][0], own[at].slice(1)];
    }
    if (slider) slider.value = at;
    if (label) label.textContent = `token ${at + 1} of ${longest}`;
    show(words, said);
  }

  function word(name, index) {
    const own = steps[name]?.filter(([each]) => each === index) ?? [];
    if (!own.length) return;
    held = [name, index];
    const first = steps[name].findIndex(([each]) => each === index);
    if (slider) slider.value = first;
    if (label) label.textContent = `token ${first + 1} of ${longest}`;
    show({ [name]: glow.merged(own) }, { [name]: index });
  }

  function whole() { // what whole answers attend to
    show(Object.fromEntries(Object.entries(steps).map(([name, own]) => [name, glow.merged(own)])), {});
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    if (button) button.textContent = "Replay";
  }

  function play() {
    if (timer) return stop();
    let at = +slider.value + 1 < longest ? +slider.value : -1;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches ? 3 : 1;
    button.textContent = "Pause";
    timer = setInterval(() => (++at < longest ? token(at) : stop()), every * calm);
  }

  function nameOf(target) {
    return Object.entries(answers()).find(([, element]) => element?.contains(target))?.[0];
  }

  function onWord(event) {
    const found = event.target.closest?.("[data-word]"), name = found && nameOf(found);
    if (!name) return;
    stop();
    word(name, +found.dataset.word);
  }

  function onKey(event) {
    const name = nameOf(event.target), step = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
    if (!name || !step || event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const words = [...new Set(steps[name]?.map(([each]) => each))].filter((each) => each >= 0);
    if (!words.length) return;
    const now = held?.[0] === name ? words.indexOf(held[1]) : step > 0 ? -1 : words.length;
    stop();
    word(name, words[Math.min(Math.max(now + step, 0), words.length - 1)]);
    event.preventDefault();
  }

  if (slider) {
    slider.max = longest - 1;
    slider.addEventListener("input", () => { stop(); token(+slider.value); });
    label.textContent = `${longest} tokens`;
  }
  button?.addEventListener("click", play);
  const again = () => show(...last); // the texts are new elements
  return { token, word, whole, stop, onWord, onKey, show, again };
}
