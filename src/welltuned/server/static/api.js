// Requests to the server, the token they carry, and whether the server is there.

const KEY = "welltuned-token";
const PATIENCE = 60000; // milliseconds for one answer

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Lost extends Error {}

// kept for this tab alone; where storage is forbidden, as long as the page stays
let token = "";
try {
  token = sessionStorage.getItem(KEY) ?? "";
} catch {
  token = "";
}
let watch = () => {};
let server = "";

export const hasToken = () => token !== "";

export function keepToken(given) {
  if (!/^[\x21-\x7e]+$/.test(given)) return false;
  token = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // it stays in memory
  }
  return true;
}

/** Take the token out of the address, so that it is neither shown, kept in the history, nor copied with a link; return whether there was one. */
export function takeToken() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const given = parts.get("token");
  if (given === null) return false;
  parts.delete("token");
  const rest = String(parts);
  history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
  return keepToken(given.trim());
}

/** Call back with "live", "lost" (and why), "refused" or "restarted". */
export const watchConnection = (callback) => {
  watch = callback;
};

/** Send a request; the answer is JSON. Throws Refused where the server says no, Lost where nobody answers. */
export async function call(path, body) {
  const sent = body === undefined ? {} : { "Content-Type": "application/json" };
  let response, answer;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: { Authorization: `Bearer ${token}`, ...sent },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE),
    });
    answer = await response.json();
  } catch {
    watch("lost", "connection lost, trying again");
    throw new Lost("the server does not answer");
  }
  const said = answer?.error?.message ?? `the server answered ${response.status}`;
  if (response.status === 401) {
    watch("refused");
    throw new Refused(401, said);
  }
  if (response.status >= 502) {
    watch("lost", `${said}; trying again`);
    throw new Lost(said);
  }
  const which = response.headers.get("Welltuned-Server") ?? "";
  if (server && which !== server) watch("restarted");
  server = which;
  watch("live");
  if (!response.ok) throw new Refused(response.status, said);
  return answer;
}

export const study = (name, rest = "") => `v1/studies/${encodeURIComponent(name)}${rest}`;
