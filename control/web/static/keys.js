// The keyboard: j k x Enter d w b Del u / ? and g + letter. Never inside a field, never with a modifier.
"use strict";

(() => {
  const PLACES = { o: "/", q: "/quarantine", m: "/messages", d: "/domains", n: "/nodes", f: "/figures" };
  let chord = 0;

  const rows = () => Array.from(document.querySelectorAll("[data-mail]"));
  const here = () => document.querySelector("[data-mail][data-here]");

  function move(step) {
    const list = rows();
    if (list.length === 0) return;
    const at = list.indexOf(here());
    const next = list[Math.min(list.length - 1, Math.max(0, at + step))];
    for (const row of list) row.removeAttribute("data-here");
    next.setAttribute("data-here", "");
    next.querySelector("a.open").focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  // On the page of a mail its button is pressed; in the list the same form is sent for the chosen row, or, when rows
  // are ticked, the list's own for all of them.
  function act(path, fields, bulk) {
    const button = document.querySelector(`[data-${path === "release" ? (fields.allow_sender ? "allow" : "deliver") : path}]`);
    if (button) { if (!button.disabled) button.form.requestSubmit(button); return; }
    const ticked = document.querySelector("[data-tick]:checked");
    const many = bulk && document.querySelector(`#acts button[name=act][value=${bulk}]`);
    if (ticked && many) { many.form.requestSubmit(many); return; }
    const row = here();
    const csrf = document.querySelector("input[name=csrf]");
    if (!row || !csrf || (path === "release" && !row.hasAttribute("data-kept"))) return;
    const form = document.createElement("form");
    form.method = "post";
    form.action = `${new URL(row.querySelector("a.open").href).pathname}/${path}`;
    form.append(csrf.cloneNode());
    for (const [name, value] of Object.entries({ ...fields, back: window.location.pathname + window.location.search })) {
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name, value });
      form.append(field);
    }
    document.body.append(form);
    form.submit();
  }

  function tick() {
    const box = here() && here().querySelector("[data-tick]");
    if (box) box.click();
  }

  function undo() {
    const button = document.querySelector("[data-undo]");
    if (button) button.form.requestSubmit(button);
  }

  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    x: tick,
    d: () => act("release", {}, "release"),
    w: () => act("release", { allow_sender: "1" }, ""),
    b: () => act("block", {}, ""),
    Delete: () => act("delete", {}, "delete"),
    u: undo,
    "/": () => {
      const field = Array.from(document.querySelectorAll("[data-search]")).find((each) => each.offsetParent);
      if (field) field.focus();
    },
    "?": () => { const help = document.getElementById("keys"); if (help) help.showModal(); },
    g: () => { chord = Date.now(); },
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (typing) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (Date.now() - chord < 1500 && PLACES[event.key]) {
      chord = 0;
      event.preventDefault();
      window.location.assign(PLACES[event.key]);
      return;
    }
    chord = 0;
    const key = KEYS[event.key];
    if (key) { event.preventDefault(); key(); }
  });
})();
