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

document.addEventListener("DOMContentLoaded", () => {
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
