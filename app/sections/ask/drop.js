() => {
  const brings = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const box = (event) => event.target instanceof Element ? event.target.closest("#document") : null;
  const mark = (on) => document.querySelector("#document")?.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    if (!brings(event)) return;
    event.preventDefault();  // a file dropped anywhere would replace the page
    mark(box(event) !== null);
  });
  addEventListener("dragleave", (event) => { if (event.relatedTarget === null) mark(false); });
  addEventListener("drop", (event) => {
    mark(false);
    if (!brings(event)) return;
    event.preventDefault();
    const input = document.querySelector("#upload")?.parentElement.querySelector("input[type=file]");
    if (box(event) === null || !input || !event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
