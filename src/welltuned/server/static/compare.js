// Several studies beside one another.

import { call } from "./api.js";
import { el } from "./dom.js";
import { NO_PLOTLY, Sections } from "./sections.js";

const NOT_COMPARABLE = "There is no figure: the studies have different objectives, or one of them no value yet.";

export class CompareView {
  constructor(names) {
    this.names = names;
    this.seconds = 1;
    this.revision = null;
    this.sections = new Sections();
    this.notice = el("p", { class: "notice", hidden: true, role: "alert" });
    this.node = el("div", {}, el("h1", {}, "Side by side"), this.notice, this.sections.node);
  }

  async update() {
    const since = this.revision === null ? {} : { since: this.revision };
    const answer = await call("v1/compare", { studies: this.names, ...since });
    this.seconds = answer.next;
    this.revision = answer.revision;
    if (!answer.sections) return;
    this.sections.draw(answer.sections);
    this.notice.hidden = answer.sections.some((section) => section.figure);
    this.notice.textContent = answer.figures ? NOT_COMPARABLE : NO_PLOTLY;
  }

  restart() {
    this.revision = null;
  }

  tick() {}

  redraw() {
    this.sections.redraw();
  }

  close() {
    this.sections.close();
  }
}
