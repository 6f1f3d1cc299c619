// Elements, and how numbers and times are written. Text goes in as text: nothing here reads HTML.

/** Make an element: properties by name, `on…` listeners, `data` for its data set; children are elements or text. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Put children into an element, unless they are there already. */
export function fill(parent, children) {
  const there = parent.childNodes;
  if (there.length === children.length && children.every((child, i) => there[i] === child)) return;
  parent.replaceChildren(...children);
}

export function number(value, digits = 6) {
  if (typeof value !== "number") return "–";
  const rounded = Number(value.toPrecision(digits));
  return rounded !== 0 && Math.abs(rounded) < 1e-4 ? rounded.toExponential() : String(rounded);
}

export function shown(value) {
  if (typeof value === "number") return number(value);
  // as in Python, and in the report
  const plain = new Map([[null, "None"], [true, "True"], [false, "False"]]).get(value);
  const text = plain ?? (typeof value === "object" ? JSON.stringify(value) : String(value));
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}

export const setting = (params) =>
  Object.entries(params ?? {}).map(([name, value]) => `${name}=${shown(value)}`).join(", ");

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} days`;
}

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Put text on the clipboard; browsers allow that in another way where the page did not come over HTTPS. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = el("textarea", { value: text, class: "aside" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  return undefined;
}

/** Ask in a dialog; resolves with the form's data, or null where it was dismissed. */
export function ask(title, content, action) {
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", {}, title),
    content,
    el(
      "div",
      { class: "row" },
      el("button", { value: "yes", class: "main" }, action),
      el("button", { value: "no", formNoValidate: true }, "Cancel"),
    ),
  );
  const dialog = el("dialog", {}, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? new FormData(form) : null);
      dialog.remove();
    });
  });
}
