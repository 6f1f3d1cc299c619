// Which studies there are, which one is looked at, and looking again and again.

import { Lost, Refused, call, hasToken, keepToken, takeToken, watchConnection } from "./api.js";
import { CompareView } from "./compare.js";
import { count, duration, el, fill, number } from "./dom.js";
import { StudyView } from "./study.js";

const MANY = 8; // studies from which on there is a filter
const HIDDEN = 15; // seconds from one look to the next while nobody sees the page
const find = (id) => document.getElementById(id);
const [gate, layout, view, list, filter, compare, connection] =
  ["gate", "layout", "view", "studies", "filter", "compare", "connection"].map(find);
const ticked = new Set();
const items = new Map();
let studies = null;
let skew = 0;
let current = null;
let shownKey = "";
let lastNews = 0;
let trouble = "";

// the connection

watchConnection((state, why) => {
  if (state === "live") {
    lastNews = Date.now();
    trouble = "";
  } else if (state === "lost") {
    trouble = why;
  } else if (state === "restarted") {
    current?.restart();
  } else {
    askToken("The server does not know this token.");
  }
  tellConnection();
});

function tellConnection() {
  const known = layout.hidden ? "" : trouble ? "lost" : lastNews ? "live" : "wait";
  connection.className = known;
  const since = duration((Date.now() - lastNews) / 1000);
  let text = { "": "", wait: "connecting …", live: "live", lost: trouble }[known];
  connection.title = lastNews ? `last update ${since} ago` : "";
  if (known === "lost" && lastNews) text += `; last update ${since} ago`;
  if (connection.textContent !== text) connection.textContent = text; // or it would be read out every second
}

function askToken(why) {
  find("why").textContent = why;
  gate.hidden = false;
  layout.hidden = true;
  find("token").focus();
}

gate.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = find("token").value.trim();
  if (!keepToken(given)) {
    askToken("A token is printable ASCII without spaces.");
    return;
  }
  find("token").value = "";
  begin();
});

// the list

function state(study) {
  if (study.error) return "broken";
  if (!study.counts) return "unknown";
  if (study.counts.running) return "runs";
  return study.stop_reason ? "ended" : "idle";
}

const TOLD = { broken: "cannot be read", unknown: "not looked at yet", runs: "running", ended: "stopped", idle: "idle" };

function item(study) {
  let found = items.get(study.name);
  if (!found) {
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${study.name}` });
    box.title = "Tick two or more to compare them";
    box.addEventListener("change", () => {
      if (box.checked) ticked.add(study.name);
      else ticked.delete(study.name);
      drawCompare();
    });
    const link = el("a", { href: `#${new URLSearchParams({ study: study.name })}` });
    found = { node: el("li", {}, box, link), link, box };
    items.set(study.name, found);
  }
  const total = study.counts ? Object.values(study.counts).reduce((sum, n) => sum + n, 0) : null;
  const best = study.front !== null ? `front of ${study.front}` : study.best ? number(study.best.value, 5) : "–";
  const kind = state(study);
  const text = JSON.stringify([study, Math.floor(Date.now() / 20000)]);
  if (text !== found.text) {
    found.text = text;
    const ago = kind === "runs" ? "now" : `${duration(Date.now() / 1000 + skew - study.active)} ago`;
    found.link.replaceChildren(
      el("span", { class: "name" }, el("span", { class: `dot ${kind}`, title: TOLD[kind] }), study.name),
      el("span", { class: "value" }, best),
      el("span", { class: "facts" }, total === null ? TOLD[kind] : `${count(total, "trial")} · ${ago}`),
    );
    found.link.title = study.error ?? study.stop_reason ?? TOLD[kind];
  }
  found.box.checked = ticked.has(study.name);
  found.link.classList.toggle("chosen", shownKey === `study ${study.name}`);
  return found.node;
}

function drawList() {
  if (!studies) return;
  const names = new Set(studies.map((study) => study.name));
  for (const name of [...items.keys()].filter((known) => !names.has(known))) {
    items.delete(name);
    ticked.delete(name);
  }
  const wanted = filter.value.trim().toLowerCase();
  const active = (study) => (study.counts?.running ? Infinity : study.active);
  const order = (a, b) => (active(a) === active(b) ? b.created - a.created : active(b) - active(a));
  const found = studies.filter((study) => study.name.toLowerCase().includes(wanted)).sort(order);
  filter.hidden = studies.length < MANY && !wanted;
  const none = studies.length ? "None of this name." : "There are no studies yet; they appear here as soon as there are.";
  fill(list, found.length ? found.map(item) : [el("li", { class: "none" }, none)]);
  drawCompare();
}

function drawCompare() {
  compare.hidden = ticked.size < 2;
  const parts = new URLSearchParams([...ticked].map((name) => ["compare", name]));
  compare.href = `#${parts}`;
  compare.textContent = `Compare ${count(ticked.size, "study", "studies")}`;
}

filter.addEventListener("input", drawList);

// what is looked at

function route() {
  if (takeToken() && !gate.hidden) {
    begin(); // the address was opened again where the token had been asked for
    return;
  }
  const parts = new URLSearchParams(location.hash.slice(1));
  const together = parts.getAll("compare");
  const name = parts.get("study") ?? (together.length === 1 ? together[0] : null);
  if (together.length > 1) show(`compare ${JSON.stringify(together)}`, () => new CompareView(together));
  else if (name !== null) show(`study ${name}`, () => new StudyView(name));
  else show("", () => null);
  for (const each of together) ticked.add(each);
  drawList();
}

function show(key, make) {
  if (key === shownKey) return;
  shownKey = key;
  current?.close();
  current = make();
  view.replaceChildren(...(current ? [current.node] : []));
  document.title = key.startsWith("study ") ? `${key.slice(6)} · welltuned` : "welltuned";
  scrollTo(0, 0);
  if (current) wake.look?.();
}

/** Without a choice, the newest study is shown: most storages hold one, or one that matters. */
function chooseFirst() {
  if (shownKey || !studies?.length || location.hash.length > 1) return;
  const newest = list.querySelector("a");
  if (newest) {
    history.replaceState(null, "", newest.getAttribute("href"));
    route();
  }
}

// looking again and again

const wake = {};

/** Do something over and over; it returns the seconds to wait. After a failure it waits longer each time. */
async function repeat(which, action) {
  let failures = 0;
  for (;;) {
    let seconds = 1;
    let again = false; // whoever is woken while it looks has seen what was there before
    wake[which] = () => {
      again = true;
    };
    try {
      seconds = gate.hidden ? await action() : 1;
      failures = 0;
    } catch (error) {
      failures += 1;
      seconds = Math.min(0.5 * 2 ** failures, 5);
      if (!(error instanceof Lost || error instanceof Refused)) console.error(error);
    }
    if (again) continue;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 1000 * (document.hidden ? Math.max(seconds, HIDDEN) : seconds));
      wake[which] = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

async function lookAtAll() {
  const answer = await call("v1/overview");
  studies = answer.studies;
  skew = answer.time - Date.now() / 1000;
  drawList();
  chooseFirst();
  return answer.next;
}

async function lookAtOne() {
  const looked = current;
  if (!looked) return 1;
  try {
    await looked.update();
  } catch (error) {
    if (error instanceof Refused && error.status !== 401 && current === looked) {
      const gone = error.status === 404 ? "It may have been deleted; it appears again when there is one." : "";
      view.replaceChildren(el("p", { class: "notice" }, `${error.message}. ${gone}`));
      looked.away = true;
      return 3;
    }
    throw error;
  }
  if (looked.away && current === looked) {
    looked.away = false;
    view.replaceChildren(looked.node);
    looked.redraw(); // what came before it was back in the page was not drawn
  }
  return looked.seconds;
}

let begun = false;

function begin() {
  gate.hidden = true;
  layout.hidden = false;
  tellConnection();
  route();
  if (begun) {
    for (const look of Object.values(wake)) look();
    return;
  }
  begun = true;
  repeat("all", lookAtAll);
  repeat("look", lookAtOne);
  setInterval(() => {
    tellConnection();
    if (!document.hidden) current?.tick();
  }, 1000);
}

addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const look of Object.values(wake)) look();
});

takeToken();
if (hasToken()) begin();
else askToken("");
