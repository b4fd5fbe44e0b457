// Small comforts; every page works without them.
"use strict";

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

function filterGroups(field) {
  const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const group of all(field.dataset.filter)) {
    const fits = wanted.every((word) => group.dataset.text.includes(word));
    group.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  const none = document.getElementById("no-setting");
  if (none) none.hidden = shown > 0;
}

function countChanges(form, line) {
  const changed = new Set();
  for (const field of Array.from(form.elements)) {
    if (!field.name || field.type === "hidden") continue;
    const differs = field.type === "checkbox" || field.type === "radio"
      ? field.checked !== field.defaultChecked
      : field.tagName === "SELECT"
        ? Array.from(field.options).some((option) => option.selected !== option.defaultSelected)
        : field.value !== field.defaultValue;
    if (differs) changed.add(field.name === "reset" ? field.value : field.name);
  }
  line.textContent = changed.size === 0 ? line.dataset.none : changed.size === 1 ? "1 unsaved change" : `${changed.size} unsaved changes`;
  return changed.size;
}

function watchForm(line) {
  const form = line.closest("form");
  let dirty = 0;
  let leaving = false;
  line.dataset.none = line.textContent;
  const look = () => { dirty = countChanges(form, line); };
  form.addEventListener("input", look);
  form.addEventListener("submit", () => { leaving = true; });
  window.addEventListener("beforeunload", (event) => { if (dirty && !leaving) event.preventDefault(); });
  look();
}

// Ticked rows: all at once, with Shift all between two, and how many they are.
function watchTicks(form) {
  const boxes = all("[data-tick]", form);
  const line = form.querySelector("[data-ticked]");
  const whole = form.querySelector("[data-tick-all]");
  const every = form.querySelector("[data-all]");
  let last = -1;
  const look = () => {
    const count = boxes.filter((box) => box.checked).length;
    line.textContent = every && every.checked ? "" : count ? `${count} selected` : "";
    whole.checked = count > 0 && count === boxes.length;
    form.toggleAttribute("data-some", count > 0 || Boolean(every && every.checked));
  };
  boxes.forEach((box, at) => box.addEventListener("click", (event) => {
    if (event.shiftKey && last >= 0) {
      const between = boxes.slice(Math.min(last, at), Math.max(last, at) + 1);
      for (const each of between) each.checked = box.checked;
    }
    last = at;
    look();
  }));
  whole.addEventListener("change", () => { for (const box of boxes) box.checked = whole.checked; look(); });
  if (every) every.addEventListener("change", look);
  look();
}

// A page whose live line has ended shows what follows from that: other buttons, failures, downloads.
document.addEventListener("htmx:sseClose", (event) => {
  if (event.target.closest("[data-ends]")) window.location.reload();
});

document.addEventListener("DOMContentLoaded", () => {
  for (const bar of all(".actbar")) watchTicks(bar.closest("form"));
  for (const toast of all("[data-toast]")) setTimeout(() => toast.remove(), 10000);
  for (const part of all("[data-expires]")) setTimeout(() => part.remove(), Number(part.dataset.expires) * 1000);
  for (const part of all("[data-needs-js]")) part.hidden = false;
  for (const part of all("[data-nojs]")) part.hidden = true;
  for (const form of all("form[data-autosubmit]")) form.addEventListener("change", () => form.requestSubmit());
  for (const field of all("input[data-filter]")) field.addEventListener("input", () => filterGroups(field));
  for (const line of all("[data-changes]")) watchForm(line);
  for (const time of all("time[datetime]")) {
    time.title = `${time.title} (${new Date(time.dateTime).toLocaleString()} here)`;
  }
});

// A page that comes back from the Back cache may show what is no longer true.
window.addEventListener("pageshow", (event) => { if (event.persisted) window.location.reload(); });
