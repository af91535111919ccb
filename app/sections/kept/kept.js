// The reading line over the marked document: follows pointer, finger and arrow keys, tells selections to the page, and
// shows the words at a click on the heatmap. Runs as `js_on_load` of a gr.HTML; sends nothing but selections.
const map = element.closest("#map") ?? element;
const QUIET_MS = 350; // a selection is sent when it has rested this long
const FLASH_MS = 3000;
const ROOM_PX = 90;
let view = null; // of the document that is shown; built when first needed
let current = -1, anchor = -1, held = false, pressed = false, sent = "", flash = 0, rest = 0, frame = 0;

const box = () => element.querySelector(".jq-text[data-reading]");
const number = (value) => value.toLocaleString("en-US");
const fill = (words, values) => words.replace(/\{(\w+)\}/g, (_, name) => values[name]);

function look() {
  const text = box();
  if (view || !text) return view;
  const data = JSON.parse(text.dataset.reading);
  const starts = [], ends = [], nodes = [], firsts = [], first = new Map();
  let position = 0;
  for (let at = 0; at < data.units.length; at += 2) {
    starts.push(position + data.units[at]);
    position += data.units[at] + data.units[at + 1];
    ends.push(position);
  }
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  for (position = 0; walker.nextNode(); position += walker.currentNode.length) {
    nodes.push(walker.currentNode);
    firsts.push(position);
    first.set(walker.currentNode, position);
  }
  view = { text, data, starts, ends, nodes, firsts, first, length: position };
  return view;
}

function forget() {
  view = null;
  current = anchor = -1;
  held = false;
  sent = "";
  mark("jq-word");
  mark("jq-region");
}

// The last index whose value is not above `position`.
function last(values, position) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= position) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function rangeOf(start, end) {
  const range = document.createRange();
  const from = last(view.firsts, start), to = last(view.firsts, Math.max(start, end - 1));
  range.setStart(view.nodes[from], start - view.firsts[from]);
  range.setEnd(view.nodes[to], end - view.firsts[to]);
  return range;
}

function positionOf(node, offset) {
  if (view.first.has(node)) return view.first.get(node) + offset;
  const range = document.createRange();
  range.setStart(view.text, 0);
  range.setEnd(node, offset);
  return range.toString().length;
}

function mark(name, range) {
  if (!window.CSS?.highlights) return;
  if (range) CSS.highlights.set(name, new Highlight(range));
  else CSS.highlights.delete(name);
}

function unitAt(x, y) {
  const caret = document.caretPositionFromPoint?.(x, y);
  const old = caret ? null : document.caretRangeFromPoint?.(x, y);
  const node = caret?.offsetNode ?? old?.startContainer, offset = caret?.offset ?? old?.startOffset;
  if (!node || !view.text.contains(node)) return -1;
  const position = positionOf(node, offset);
  for (const unit of new Set([last(view.starts, position), last(view.starts, position - 1)])) {
    if (unit < 0 || position > view.ends[unit]) continue;
    for (const area of rangeOf(view.starts[unit], view.ends[unit]).getClientRects()) {
      if (x >= area.left - 1 && x <= area.right + 1 && y >= area.top - 4 && y <= area.bottom + 4) return unit;
    }
  }
  return -1;
}

function say(lines) {
  const panel = element.querySelector(".jq-reading");
  panel?.classList.toggle("jq-held", held);
  panel?.replaceChildren(...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
}

function short(text) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > 90 ? `${line.slice(0, 60)} … ${line.slice(-25)}` : line;
}

function sentences(method, unit) {
  const { words, whole, rows } = view.data;
  const one = method.heads === 1 ? "one_" : "", kept = method.kept[unit], values = { title: method.title };
  const told = [];
  if (whole && one) told.push(words[kept ? "one_kept" : "one_gone"]);
  else told.push(words[whole ? "kept" : `${one}mean`]);
  Object.assign(values, {
    count: number(kept), heads: number(method.heads), share: `${number(kept / 10)} %`, rows: number(rows),
    best: number(method.best[unit]), median: number(method.median[unit]),
    margin: (method.margin[unit] / 100).toFixed(2),
  });
  if (!method.best[unit]) told.push(words.unscored);
  else told.push(words[`${one}rank`]);
  if (method.margin[unit] >= 0) told.push(words[`${one}margin`]);
  if (one && whole && kept && method.margin[unit] >= 0 && method.margin[unit] < 100) told.push(words.one_place);
  if (one && whole && !kept && method.margin[unit] > 100) told.push(words.one_passed);
  return fill(told.join(" "), values);
}

function tell(unit) {
  current = unit;
  const range = rangeOf(view.starts[unit], view.ends[unit]);
  mark("jq-word", range);
  const lines = view.data.methods.map((method) => sentences(method, unit));
  say([`“${short(range.toString())}”${held ? ` (${view.data.words.held})` : ""}`, ...lines]);
}

// Scrolls box and page until a place can be seen with the lines around it, clear of the reading line that sticks to the top.
function bring(start, end) {
  for (let pass = 0; pass < 2; pass++) { // blocks get their true height when they are first laid out
    const area = rangeOf(start, end).getBoundingClientRect(), around = view.text.getBoundingClientRect();
    const above = around.top + ROOM_PX - area.top, below = area.bottom - around.bottom + ROOM_PX;
    if (above > 0) view.text.scrollTop -= above;
    else if (below > 0) view.text.scrollTop += Math.min(below, -above);
  }
  const area = rangeOf(start, end).getBoundingClientRect();
  const panel = element.querySelector(".jq-reading")?.getBoundingClientRect().height ?? 0;
  if (area.top < panel + ROOM_PX || area.top > innerHeight - ROOM_PX) {
    scrollBy(0, area.top - Math.max(panel + ROOM_PX, innerHeight / 3));
  }
}

// The unit of the next line that is nearest below or above. Measures units one after the other: blocks that are not on the
// screen yet are laid out when they are measured, but points in them cannot be hit.
function line(unit, down) {
  const step = down ? 1 : -1, edge = (at) => {
    const range = rangeOf(view.starts[at], view.ends[at]), areas = range.getClientRects();
    return areas[(at === unit) === down ? areas.length - 1 : 0] ?? range.getBoundingClientRect();
  };
  const area = edge(unit), x = (area.left + area.right) / 2, half = area.height / 2;
  let found = unit, nearest = Infinity, row = null;
  for (let at = unit + step; at >= 0 && at < view.starts.length; at += step) {
    const place = edge(at);
    if (Math.abs(place.top - area.top) <= half) continue;
    row ??= place.top;
    if (Math.abs(place.top - row) > half) break;
    const away = Math.max(place.left - x, x - place.right, 0);
    if (away < nearest) [found, nearest] = [at, away];
  }
  return found;
}

function target(key) {
  const units = view.starts.length, right = getComputedStyle(view.text).direction === "rtl" ? -1 : 1;
  if (key === "Home") return 0;
  if (key === "End") return units - 1;
  if (current < 0) {
    const around = view.text.getBoundingClientRect();
    for (let y = around.top + 20; y < around.bottom; y += 12) {
      for (let x = around.left + 20; x < around.right; x += 24) {
        const found = unitAt(x, y);
        if (found >= 0) return found;
      }
    }
    return 0;
  }
  if (key === "ArrowRight" || key === "ArrowLeft") {
    return Math.min(Math.max(current + (key === "ArrowRight" ? right : -right), 0), units - 1);
  }
  return line(current, key === "ArrowDown");
}

function onKey(event) {
  if (event.target !== box() || !look()?.starts.length || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" && current >= 0) {
    held = !held;
    tell(current);
  } else if (event.key === "Escape") {
    held = false;
    getSelection().removeAllRanges();
    if (current >= 0) tell(current);
  } else if (/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) {
    const before = current;
    held = false;
    tell(target(event.key));
    bring(view.starts[current], view.ends[current]);
    if (event.shiftKey) {
      if (anchor < 0) anchor = Math.max(before, 0);
      const [from, to] = [Math.min(anchor, current), Math.max(anchor, current)];
      const range = rangeOf(view.starts[from], view.ends[to]);
      getSelection().setBaseAndExtent(range.startContainer, range.startOffset, range.endContainer, range.endOffset);
    } else {
      anchor = -1;
      getSelection().removeAllRanges();
    }
  } else return;
  event.preventDefault();
}

function onPoint(event) {
  if (held || event.buttons || !event.target.closest?.(".jq-text") || frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    if (held || !element.isConnected || !look()) return;
    const unit = unitAt(event.clientX, event.clientY);
    if (unit >= 0 && unit !== current) tell(unit);
  });
}

function onClick(event) {
  if (!event.target.closest?.(".jq-text") || !getSelection().isCollapsed || !look()) return;
  const unit = unitAt(event.clientX, event.clientY);
  if (unit < 0) return;
  held = !(held && unit === current);
  anchor = -1;
  tell(unit);
}

function onSelection() {
  if (!element.isConnected) return document.removeEventListener("selectionchange", onSelection);
  clearTimeout(rest);
  rest = setTimeout(() => {
    const selection = getSelection();
    if (pressed || !selection.rangeCount || selection.isCollapsed || !look()) return;
    const range = selection.getRangeAt(0);
    if (!view.text.contains(range.startContainer)) return;
    const start = positionOf(range.startContainer, range.startOffset);
    const inside = view.text.contains(range.endContainer);
    const end = inside ? positionOf(range.endContainer, range.endOffset) : view.length;
    if (start >= end || sent === `${start} ${end}`) return;
    sent = `${start} ${end}`;
    trigger("select", { start, end });
  }, QUIET_MS);
}

function show(start, end) {
  clearTimeout(flash);
  mark("jq-region", rangeOf(start, end));
  bring(start, end);
  flash = setTimeout(() => mark("jq-region"), FLASH_MS);
}

map.showSpan = (start, end) => look() && end > start && end <= view.length && show(start, end);

// What a region of the heatmap is: where it lies, its words, and their place in the document; null without any.
map.region = (layer, bin) => {
  if (!look()) return null;
  const { bins, edges, words } = view.data, [start, end] = bins.slice(2 * bin, 2 * bin + 2);
  const told = fill(words.region, { layer, first: number(edges[bin]), last: number(edges[bin + 1] - 1) });
  return [told, end > start ? `“${short(rangeOf(start, end).toString())}”` : words.outside, start, end];
};

map.showRegion = (point) => {
  const region = map.region(point.y, (point.pointIndex ?? point.pointNumber)[1]);
  if (!region) return;
  const [told, words, start, end] = region;
  held = false;
  say(end > start ? [words, told] : [told, words]);
  if (end > start) show(start, end);
};

function link() { // Plotly draws anew with each figure and knows its own events only
  const plot = map.querySelector("#map-heatmap .js-plotly-plot");
  if (!plot?.on || plot.linked) return;
  plot.linked = true;
  plot.on("plotly_click", (event) => map.showRegion?.(event.points[0]));
}

element.addEventListener("keydown", onKey);
element.addEventListener("pointermove", onPoint);
element.addEventListener("click", onClick);
element.addEventListener("pointerdown", () => {
  pressed = true;
  addEventListener("pointerup", () => { pressed = false; onSelection(); }, { once: true });
  addEventListener("pointercancel", () => { pressed = false; onSelection(); }, { once: true });
});
document.addEventListener("selectionchange", onSelection);
map.addEventListener("pointerover", link);
watch("value", () => { forget(); document.dispatchEvent(new Event("jq-redrawn")); });
