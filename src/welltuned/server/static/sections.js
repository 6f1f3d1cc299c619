// The sections of a report, drawn where they are new and changed where they are there: zoom, hover and scrolling stay.

import { el, fill } from "./dom.js";

export const NO_PLOTLY = "Figures need plotly where the server runs: pip install 'welltuned[plots]'";
const CONFIG = { displayModeBar: false, responsive: true };
const dark = matchMedia("(prefers-color-scheme: dark)");
let plotly = null;

/** Load Plotly once; false where the server has none. */
function loadPlotly() {
  plotly ??= new Promise((resolve) => {
    const script = el("script", { src: "static/plotly.js" });
    script.addEventListener("load", () => resolve(true));
    script.addEventListener("error", () => {
      script.remove();
      plotly = null; // the server may only have been away
      resolve(false);
    });
    document.head.append(script);
  });
  return plotly;
}

function themed(layout) {
  const found = { ...layout, uirevision: "same", autosize: true };
  delete found.width;
  if (!dark.matches) return found;
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  found.font = { ...layout.font, color: ink };
  const none = { gridcolor: line, zerolinecolor: line, linecolor: line };
  for (const axis of ["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d+$/.test(key))]) {
    found[axis] = { ...none, ...layout[axis] };
  }
  return found;
}

/** On dark paper, give points of dark shades an outline. */
function outlined(data) {
  if (!dark.matches) return data;
  const line = { color: "#9aa5b1", width: 0.7 };
  return data.map((trace) => (trace.marker?.colorscale ? { ...trace, marker: { ...trace.marker, line } } : trace));
}

export class Sections {
  constructor() {
    this.node = el("div", { class: "sections" });
    this.parts = new Map();
    this.grids = new Map();
    this.recolour = () => this.redraw();
    dark.addEventListener("change", this.recolour);
  }

  /** Let go of what the figures hold: a browser keeps drawing contexts for a few of them only. */
  close() {
    dark.removeEventListener("change", this.recolour);
    for (const part of this.parts.values()) part.clear();
  }

  /** Draw the sections; those that are gone disappear. */
  draw(sections) {
    const nodes = [];
    let grid = null;
    for (const section of sections) {
      const part = this.part(section.key);
      part.update(section);
      if (!section.half) {
        nodes.push(part.node);
      } else if (grid) {
        fill(grid.node, [grid.first, part.node]);
        nodes.push(grid.node);
        grid = null;
      } else {
        grid = { node: this.grid(section.key), first: part.node };
      }
    }
    const keys = new Set(sections.map((section) => section.key));
    for (const key of [...this.parts.keys()].filter((known) => !keys.has(known))) {
      this.parts.get(key).clear();
      this.parts.delete(key);
    }
    fill(this.node, nodes);
    this.redraw();
  }

  redraw() {
    for (const part of this.parts.values()) part.draw();
  }

  part(key) {
    if (!this.parts.has(key)) this.parts.set(key, new Part(key));
    return this.parts.get(key);
  }

  grid(key) {
    if (!this.grids.has(key)) this.grids.set(key, el("div", { class: "grid" }));
    return this.grids.get(key);
  }
}

class Part {
  constructor(key) {
    this.title = el("h2");
    this.note = el("p");
    this.body = el("div");
    this.plot = el("div", { class: "plot" });
    this.wide = el("div", { class: "wide", hidden: true }, this.plot);
    this.node = el("section", { data: { key } }, this.title, this.note, this.body, this.wide);
    this.said = "";
    this.figure = null;
    this.drawn = "";
  }

  update(section) {
    const said = JSON.stringify([section.title, section.note, section.html]);
    if (said !== this.said) {
      this.said = said;
      const place = this.body.querySelector(".scroll")?.scrollTop ?? 0;
      this.title.textContent = section.title;
      // made by the server's report, in which all that came from a study is escaped
      this.note.innerHTML = section.note;
      this.body.innerHTML = section.html;
      this.title.hidden = !section.title;
      this.note.hidden = !section.note;
      const scroll = this.body.querySelector(".scroll");
      if (scroll) scroll.scrollTop = place;
    }
    if (!section.figure) this.clear();
    this.figure = section.figure;
    this.wide.hidden = !section.figure;
  }

  clear() {
    this.figure = null;
    if (this.drawn) globalThis.Plotly.purge(this.plot);
    this.drawn = "";
  }

  /** Draw the figure, unless it is drawn already. Plotly measures, so the section has to be in the page. */
  async draw() {
    const figure = this.figure;
    if (!figure || !this.node.isConnected) return;
    const state = JSON.stringify([figure.data, figure.layout, dark.matches]);
    if (state === this.drawn) return;
    if (!(await loadPlotly()) || this.figure !== figure || !this.node.isConnected) return;
    this.drawn = state;
    this.plot.style.height = figure.layout.height ? `${figure.layout.height}px` : "";
    await globalThis.Plotly.react(this.plot, outlined(figure.data), themed(figure.layout), CONFIG);
  }
}
