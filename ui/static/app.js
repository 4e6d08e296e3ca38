// What the pages can't do without a script. All of them work without it too:
// times are then in UTC, texts are copied by hand, lists refresh by reloading.
"use strict";

// Times stand in UTC in the page and are shown in the zone of whoever looks.
const parts = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
const moments = new Intl.DateTimeFormat(undefined, parts);
const oldMoments = new Intl.DateTimeFormat(undefined, { year: "numeric", ...parts });
function localTimes(root) {
  for (const el of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(el.dateTime);
    if (isNaN(at)) continue;
    el.title = el.textContent;
    el.textContent = (at.getFullYear() === new Date().getFullYear() ? moments : oldMoments).format(at);
  }
}

// A button with data-copy copies the text of the element with that ID.
async function copy(button) {
  const from = document.getElementById(button.dataset.copy);
  const text = from.textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch { // without https browsers have no clipboard: select it and copy as of old
    const range = document.createRange();
    range.selectNodeContents(from);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (!document.execCommand("copy")) {
      say("Selected: press Ctrl+C or ⌘C to copy.");
      return;
    }
  }
  say("Copied.");
  const was = copied.get(button) || { label: [...button.childNodes] };
  copied.set(button, was);
  button.replaceChildren("Copied");
  clearTimeout(was.timer); // pressed again: it says so for longer
  was.timer = setTimeout(() => {
    button.replaceChildren(...was.label);
    copied.delete(button);
  }, 1600);
}

// The buttons that say "Copied", with what they say otherwise.
const copied = new Map();

// say tells people who listen to the page.
function say(text) {
  document.getElementById("said").textContent = text;
}

document.addEventListener("click", (e) => {
  const button = e.target.closest("[data-copy]");
  if (button) copy(button);
});

// Filters are applied as soon as one is chosen.
document.addEventListener("change", (e) => {
  if (e.target.matches("select[data-now]")) e.target.form.requestSubmit();
  if (e.target.matches("select[data-shows]")) shows(e.target);
});

// A field that one choice needs is there while that is chosen.
function shows(select) {
  const [value, id] = select.dataset.shows.split(":");
  document.getElementById(id).hidden = select.value !== value;
}

// What a bar says is shown beside the pointer.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.addEventListener("pointermove", (e) => {
  const bar = e.target.closest && e.target.closest("[data-tip]");
  tip.hidden = !bar;
  if (!bar) return;
  tip.textContent = bar.dataset.tip;
  const right = e.clientX > innerWidth / 2;
  tip.style.left = right ? "" : e.clientX + 14 + "px";
  tip.style.right = right ? innerWidth - e.clientX + 14 + "px" : "";
  tip.style.top = Math.min(e.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
});

function ready(root) {
  localTimes(root);
  for (const el of root.querySelectorAll("select[data-shows]")) shows(el);
  for (const el of root.querySelectorAll("[data-script]")) el.hidden = false;
}

document.addEventListener("DOMContentLoaded", () => {
  document.body.append(tip);
  ready(document);
});
document.addEventListener("htmx:afterSwap", (e) => {
  ready(document);
  if (e.detail.elt.dataset && e.detail.elt.dataset.said) say(e.detail.elt.dataset.said);
});
document.addEventListener("htmx:sendError", () => say("The server can't be reached. Trying again."));
// What refreshes itself waits while nobody looks, and while somebody goes through
// it by keyboard, whose place would be lost.
document.addEventListener("htmx:beforeRequest", (e) => {
  const asked = e.detail.requestConfig.triggeringEvent;
  if (!asked && (document.hidden || e.detail.elt.querySelector(":focus-visible"))) e.preventDefault();
});
