// One study: how far it has come, what runs now, its report, its trials, and what can be done about it.

import { Lost, call, study } from "./api.js";
import { ask, copy, count, duration, el, fill, setting } from "./dom.js";
import { NO_PLOTLY, Sections } from "./sections.js";
import { Trials } from "./trials.js";

const TOP = new Set(["best", "setting"]);
const ENDS = /^(budget|population|space exhausted):/; // reasons of a study that has done all it was to do
const LOOK = 1.5; // seconds from one look at the study to the next

/** Say what became of configurations: those that were there before are not evaluated again. */
function enqueued(numbers, fresh, stopped) {
  const known = numbers.filter((number) => !fresh.has(number));
  const added = numbers.length - known.length;
  const when = stopped ? "once the study goes on" : "next";
  return [
    ...(added ? [`Enqueued: ${count(added, "trial")} to be evaluated ${when}.`] : []),
    ...(known.length ? [`Not evaluated again: ${known.length > 5 ? count(known.length, "configuration") : `trial ${known.join(", ")}`}.`] : []),
  ].join(" ");
}

export class StudyView {
  constructor(name) {
    this.name = name;
    this.seconds = LOOK;
    this.revision = null;
    this.due = 0;
    this.busy = false;
    this.badge = el("span", { class: "badge" });
    this.counts = el("p", { class: "counts" });
    this.bar = el("div", { class: "progress", hidden: true }, el("div"));
    this.actions = el("div", { class: "row" });
    this.said = el("p", { class: "said" });
    this.notice = el("p", { class: "notice", hidden: true, role: "alert" });
    this.running = el("section", { data: { key: "running" }, hidden: true });
    this.top = new Sections();
    this.rest = new Sections();
    this.trials = new Trials(name);
    this.node = el(
      "div",
      { class: "study" },
      el("div", { class: "title" }, el("h1", {}, name), this.badge),
      this.counts,
      this.bar,
      this.actions,
      this.notice,
      this.top.node,
      this.running,
      this.rest.node,
      this.trials.node,
      this.said,
    );
    this.stop = el("button", { type: "button", onclick: () => this.askStop() }, "Stop …");
    this.goOn = el("button", { type: "button", onclick: () => this.act("/stop", { reason: null }) }, "Let it go on");
    this.add = el("button", { type: "button", onclick: () => this.askEnqueue() }, "Enqueue a configuration …");
  }

  /** Look at the study; its report comes by itself, when it is ready. */
  async update() {
    const began = performance.now();
    const summary = await call(study(this.name, "?reports=0"));
    this.seconds = Math.max(LOOK, (4 * (performance.now() - began)) / 1000); // spare the server where it is slow
    if (this.summary && this.summary.created !== summary.created) this.revision = null; // another one of this name
    this.summary = summary;
    this.skew = summary.time - Date.now() / 1000;
    this.drawHead();
    this.tick();
    this.report();
    await this.trials.update(summary);
  }

  /** Forget which report is shown: another server may count in another way. */
  restart() {
    this.revision = null;
    this.due = 0;
  }

  redraw() {
    this.top.redraw();
    this.rest.redraw();
  }

  close() {
    this.top.close();
    this.rest.close();
  }

  async report() {
    if (this.busy || this.summary.revision === this.revision || Date.now() < this.due) return;
    this.busy = true;
    try {
      const since = this.revision === null ? "" : `?since=${this.revision}`;
      const answer = await call(study(this.name, `/report${since}`));
      this.due = Date.now() + 1000 * answer.next;
      if (answer.sections) this.draw(answer);
      this.revision = answer.revision;
      if (answer.sections) this.tell(answer.figures ? "" : NO_PLOTLY);
    } catch (error) {
      if (!(error instanceof Lost)) this.tell(error.message);
      this.due = Date.now() + 5000;
    } finally {
      this.busy = false;
    }
  }

  draw(answer) {
    this.top.draw(answer.sections.filter((section) => TOP.has(section.key)));
    this.rest.draw(answer.sections.filter((section) => !TOP.has(section.key)));
    this.said.textContent = answer.summary;
    const place = this.top.node.querySelector('[data-key="setting"]');
    if (place && !place.querySelector("button")) {
      const button = el("button", { type: "button", class: "copy" }, "Copy as JSON");
      button.addEventListener("click", async () => {
        await copy(JSON.stringify(this.summary.best?.params ?? {}, null, 2));
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy as JSON"), 1500);
      });
      place.append(button);
    }
  }

  drawHead() {
    const { counts, n_trials: budget, spent, stop_reason: reason, directions } = this.summary;
    const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const runs = counts.running > 0;
    this.badge.className = `badge ${runs ? "runs" : reason ? "ended" : "idle"}`;
    const ended = ENDS.test(reason ?? "") ? "done" : "stopped";
    this.badge.textContent = runs ? `${counts.running} running` : reason ? ended : "nothing runs";
    const states = Object.entries(counts).filter(([state, n]) => n && state !== "running");
    const goals = Object.entries(directions).map(([name, direction]) => `${direction} ${name}`).join(", ");
    this.counts.textContent = [
      goals,
      `${budget ? `${spent.toLocaleString("en")} of ` : ""}${count(budget || total, "trial")}`,
      ...states.map(([state, n]) => `${n.toLocaleString("en")} ${state}`),
      ...(reason ? [`stopped: ${reason}`] : []),
    ].join(" · ");
    this.bar.hidden = !budget;
    if (budget) {
      const done = Math.min(1, (spent - counts.running - counts.waiting) / budget);
      this.bar.firstChild.style.width = `${100 * Math.max(0, done)}%`;
      this.bar.title = `${Math.round(100 * done)} % of ${budget} trials`;
    }
    fill(this.actions, [reason ? this.goOn : this.stop, this.add]);
  }

  /** Show what runs now, and for how long. */
  tick() {
    const running = this.summary?.running ?? [];
    this.running.hidden = !running.length;
    if (!running.length) return;
    const now = Date.now() / 1000 + this.skew;
    const since = (trial) => {
      const silent = trial.lease_until !== null && now - trial.lease_until > 5;
      return `${trial.started === null ? "" : duration(now - trial.started)}${silent ? ", no sign of life" : ""}`;
    };
    // only the clocks go on where nothing else is new: what is selected stays selected
    const text = JSON.stringify([running.map((t) => [t.number, t.params, t.report]), this.summary.counts.running]);
    if (text === this.runs) {
      running.forEach((trial, i) => (this.clocks[i].textContent = since(trial)));
      return;
    }
    this.runs = text;
    this.clocks = running.map((trial) => el("td", { class: "number" }, since(trial)));
    const all = this.summary.counts.running;
    const rows = running.map((trial, i) => {
      const report = trial.report ? `step ${trial.report.step}: ${setting(trial.report.metrics)}` : "none yet";
      return el(
        "tr",
        {},
        el("td", {}, String(trial.number)),
        this.clocks[i],
        el("td", {}, trial.params === null ? "being searched for" : report),
        el("td", {}, el("code", {}, setting(trial.params))),
      );
    });
    const heads = ["trial", "for", "last report", "setting"].map((name) => el("th", {}, name));
    const few = all > running.length ? `The latest ${running.length} of ${all}.` : "";
    this.running.replaceChildren(
      el("h2", {}, "Running now"),
      ...(few ? [el("p", {}, few)] : []),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows))),
    );
  }

  tell(text) {
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  async act(path, body) {
    try {
      await call(study(this.name, path), body);
      this.tell("");
      await this.update();
    } catch (error) {
      this.tell(error.message);
    }
  }

  async askStop() {
    const reason = el("input", { name: "reason", value: "stopped in the dashboard", required: true });
    const running = this.summary.counts.running;
    const content = el(
      "div",
      {},
      el("p", {}, `Every process that works on it ends after the ${running ? count(running, "trial") : "trials"} under way; nothing is lost, and it may go on later.`),
      el("label", {}, "Reason ", reason),
    );
    const answer = await ask(`Stop ${this.name}?`, content, "Stop the study");
    if (answer) await this.act("/stop", { reason: answer.get("reason").trim() || "stopped in the dashboard" });
  }

  async askEnqueue() {
    const best = this.summary.best?.params ?? this.summary.front?.[0]?.params;
    const text = JSON.stringify(best ?? {}, null, 2);
    const hint = best ? " What is here is the best setting so far." : "";
    const area = el("textarea", { name: "params", rows: 10, spellcheck: false, value: text });
    const content = el(
      "div",
      {},
      el("p", {}, `A configuration as JSON, or a list of them; it is evaluated next.${hint}`),
      area,
    );
    const answer = await ask("Enqueue", content, "Enqueue");
    if (!answer) return;
    let params;
    try {
      params = JSON.parse(answer.get("params"));
    } catch (error) {
      this.tell(`This is not JSON: ${error.message}`);
      return;
    }
    try {
      const { revision } = await call(study(this.name, "?reports=0"));
      const { numbers } = await call(study(this.name, "/enqueue"), { params });
      const changed = await call(study(this.name, `/trials?since=${revision}&limit=1000&reports=0`));
      this.tell(enqueued(numbers, new Set(changed.trials.map((trial) => trial.number)), this.summary.stop_reason));
      await this.update();
    } catch (error) {
      this.tell(error.message);
    }
  }
}
