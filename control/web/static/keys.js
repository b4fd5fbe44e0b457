// The keyboard: j k Enter d / ? and g + letter. Never inside a field, never with a modifier.
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

  // On the page of a mail the button is pressed; in the list the same form is sent for the chosen row.
  function deliver() {
    const button = document.querySelector("[data-deliver]");
    if (button) { button.form.requestSubmit(button); return; }
    const row = here();
    const csrf = document.querySelector("input[name=csrf]");
    if (!row || !csrf || !row.hasAttribute("data-kept")) return;
    const form = document.createElement("form");
    form.method = "post";
    form.action = `${new URL(row.querySelector("a.open").href).pathname}/release`;
    form.append(csrf.cloneNode());
    document.body.append(form);
    form.submit();
  }

  const KEYS = {
    j: () => move(1),
    k: () => move(-1),
    d: deliver,
    "/": () => {
      const field = Array.from(document.querySelectorAll("[data-search]")).find((each) => each.offsetParent);
      if (field) field.focus();
    },
    "?": () => { const help = document.getElementById("keys"); if (help) help.showModal(); },
    g: () => { chord = Date.now(); },
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (typing) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (Date.now() - chord < 1500 && PLACES[event.key]) {
      chord = 0;
      event.preventDefault();
      window.location.assign(PLACES[event.key]);
      return;
    }
    chord = 0;
    const act = KEYS[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();
