// The table of trials, a page at a time, the newest first.

import { call, study } from "./api.js";
import { count, duration, el, fill, number, setting, shown } from "./dom.js";

const SIZE = 50;

export class Trials {
  constructor(name) {
    this.name = name;
    this.end = null; // one past the last trial of the page; null follows the newest
    this.total = 0;
    this.revision = -1;
    this.open = new Set();
    this.body = el("tbody");
    this.head = el("tr");
    this.place = el("span", { class: "place" });
    this.buttons = [
      ["« newest", () => null],
      ["‹ newer", () => this.shifted(SIZE)],
      ["older ›", () => this.shifted(-SIZE)],
      ["oldest »", () => Math.min(SIZE, this.total)],
    ].map(([label, to]) => el("button", { type: "button", onclick: () => this.go(to()) }, label));
    const table = el("table", { class: "trials" }, el("thead", {}, this.head), this.body);
    this.node = el(
      "section",
      { data: { key: "trials" } },
      el("h2", {}, "Trials"),
      (this.note = el("p", {}, "Click a row for more of it.")),
      el("div", { class: "row pages" }, ...this.buttons, this.place),
      el("div", { class: "scroll" }, table),
    );
  }

  shifted(by) {
    const end = (this.end ?? this.total) + by;
    return end >= this.total ? null : Math.max(end, Math.min(SIZE, this.total));
  }

  async go(end) {
    this.end = end;
    this.revision = -1;
    await this.update(this.summary);
  }

  /** Read the page anew where the study has changed. */
  async update(summary) {
    this.summary = summary;
    if (!summary || summary.revision === this.revision) return;
    const total = Object.values(summary.counts).reduce((sum, n) => sum + n, 0);
    const end = Math.min(this.end ?? total, total);
    const offset = Math.max(0, end - SIZE);
    const limit = Math.max(1, end - offset);
    const answer = await call(study(this.name, `/trials?offset=${offset}&limit=${limit}&reports=1`));
    this.total = answer.total;
    this.revision = summary.revision;
    this.draw(answer.trials.reverse(), offset);
  }

  draw(trials, offset) {
    const objectives = Object.keys(this.summary.directions);
    const params = [...new Set(trials.flatMap((trial) => Object.keys(trial.params ?? {})))];
    const columns = ["trial", "state", ...objectives, ...params, "seconds"];
    fill(this.head, columns.map((name) => el("th", {}, name)));
    const best = new Set([this.summary.best, ...(this.summary.front ?? [])].map((trial) => trial?.number));
    const rows = trials.flatMap((trial) => {
      const row = this.row(trial, objectives, params, best.has(trial.number));
      return this.open.has(trial.number) ? [row, this.more(trial, columns.length)] : [row];
    });
    fill(this.body, rows);
    this.node.querySelector(".scroll").hidden = this.note.hidden = !trials.length;
    const to = offset + trials.length;
    this.place.textContent = trials.length
      ? `${(offset + 1).toLocaleString("en")}–${to.toLocaleString("en")} of ${count(this.total, "trial")}`
      : "There are none yet.";
    const [newest, newer, older, oldest] = this.buttons;
    newest.disabled = newer.disabled = this.end === null;
    older.disabled = oldest.disabled = offset === 0;
    for (const button of this.buttons) button.hidden = this.total <= SIZE;
    this.drawn = [trials, offset];
  }

  row(trial, objectives, params, isBest) {
    const metric = (name) => (name in trial.metrics ? number(trial.metrics[name]) : "");
    const known = trial.params ?? {};
    const cells = [
      el("td", {}, String(trial.number)),
      el("td", { class: `state ${trial.state}` }, trial.reason ? `${trial.state}: ${trial.reason}` : trial.state),
      ...objectives.map((name) => el("td", {}, metric(name))),
      ...params.map((name) => el("td", {}, name in known ? shown(known[name]) : "")),
      el("td", {}, trial.seconds === null ? "" : number(trial.seconds, 3)),
    ];
    const toggle = () => {
      if (!this.open.delete(trial.number)) this.open.add(trial.number);
      this.draw(...this.drawn);
    };
    const key = (event) => {
      if (event.key !== "Enter") return;
      toggle();
      this.body.querySelector(`[data-number="${trial.number}"]`)?.focus();
    };
    const data = { number: trial.number };
    return el("tr", { class: isBest ? "best" : "", tabIndex: 0, data, onclick: toggle, onkeydown: key }, ...cells);
  }

  more(trial, columns) {
    const last = trial.reports.at(-1);
    const facts = [
      ["error", trial.error],
      ["setting", setting(trial.params)],
      ["metrics", setting(trial.metrics)],
      ["standard errors", setting(trial.sems)],
      ["last report", last && `step ${last.step}: ${setting(last.metrics)}`],
      ["began", trial.started && new Date(trial.started * 1000).toLocaleString()],
      ["took", trial.seconds === null ? null : duration(trial.seconds)],
      ["came from", trial.origin],
      ["evaluated by", trial.owner],
      ["attempts", trial.attempts > 1 ? String(trial.attempts) : null],
      ["goes on from", trial.provenance?.parent === undefined ? null : `trial ${trial.provenance.parent}`],
      ["attributes", Object.keys(trial.attributes).length ? JSON.stringify(trial.attributes, null, 1) : null],
    ].filter(([, text]) => text);
    const list = el("dl", {}, ...facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, el("code", {}, text))]));
    return el("tr", { class: "more" }, el("td", { colSpan: columns }, list));
  }
}
