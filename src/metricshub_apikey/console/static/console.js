// @ts-check
const DAY = 864e5;
const PAGE = 50;
const SOON = 30 * DAY;
const STALE = 90 * DAY;
const SESSION = "apikey-session";
const WHO = ({ service: "A service", agent: "An AI agent", person: "A person" });

class Refusal extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/* ---- Elements: text is always text, never markup. ---- */

const SHORT = { k: "data-k", f: "data-field", label: "aria-label" };
const ROLES = { td: "cell", tr: "row", th: "columnheader", table: "table" };

/**
 * Makes an element: `h("p.soft", {title: "…"}, "text", child, …)`.
 * @param {string} tag @param {Record<string, any>|null} [set] @param {...(Child|Child[])} children @returns {any}
 */
function h(tag, set, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  const start = { ...(ROLES[name] && { role: ROLES[name] }), ...(name === "button" && !classes.includes("send") && { type: "button" }), ...(classes[0] && { class: classes.join(" ") }) };
  for (const [key, value] of Object.entries({ ...start, ...set })) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") made[key] = value;
    else if (value !== false && value != null) made.setAttribute(SHORT[key] ?? key, value === true ? "" : value);
  }
  made.append(.../** @type {Node[]} */ (children.flat().filter((one) => one || one === 0)));
  return made;
}

/** @param {string} tag @param {Record<string, any>} set @param {...(Node|string)} children */
function s(tag, set, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(set)) if (value != null) made.setAttribute(SHORT[name] ?? name, value);
  made.append(...children);
  return made;
}

const p = (...what) => h("p", null, ...what);
const soft = (...what) => h("p.soft", null, ...what);

const ICONS = ({
  rotate: "M20 11a8 8 0 0 0-14.3-4L3 9.7M3 4.5v5.2h5.2M4 13a8 8 0 0 0 14.3 4L21 14.3m0 5.2v-5.2h-5.2",
  pause: "M9 5v14M15 5v14", play: "M8 5v14l11-7z", trash: "M4 7h16M10 11v6m4-6v6M6 7l1 13h10l1-13M9 7V4h6v3",
  edit: "M4 20l1-4L16 5l3 3L8 19z", copy: "M9 9h11v11H9zM5 15H4V4h11v1", yes: "M4 12.5l5 5L20 6.5", no: "M6 6l12 12M18 6L6 18",
  warn: "M12 9v4m0 4v.010M10.3 4L2.5 18a2 2 0 0 0 1.7 3h15.600a2 2 0 0 0 1.7-3L13.7 4a2 2 0 0 0-3.4 0z",
  info: "M12 11v5m0-8v.010M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", plus: "M12 5v14M5 12h14", flag: "M5 21V4h12l-2 4 2 4H5",
});

const icon = (name) => s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));

const note = (kind, ...what) => h("div", { class: `note ${kind}`, role: kind === "bad" ? "alert" : null }, icon(kind ? "warn" : "info"), h("div.grow", null, ...what));

const at = (id) => document.getElementById(id);

const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function toast(sentence, undo, act) {
  const shown = h("div.toast", null, sentence, undo && h("button", { onclick: () => { shown.remove(); act?.(); } }, undo));
  at("toasts").append(shown);
  setTimeout(() => shown.remove(), undo ? 12e3 : 6e3);
}

/* ---- Times ---- */

const dayForm = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const timeForm = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
const relativeForm = new Intl.RelativeTimeFormat("en", { numeric: "always" });

function relative(moment) {
  const left = moment - Date.now();
  const size = Math.abs(left);
  if (size < 6e4) return left > 0 ? "in a moment" : "just now";
  if (size < 36e5) return relativeForm.format(Math.round(left / 6e4), "minute");
  if (size < 1.5 * DAY) return relativeForm.format(Math.round(left / 36e5), "hour");
  if (size < 91 * DAY) return relativeForm.format(Math.round(left / DAY), "day");
  if (size < 730 * DAY) return relativeForm.format(Math.round(left / (30.44 * DAY)), "month");
  return relativeForm.format(Math.round(left / (365.25 * DAY)), "year");
}

/** The server's local text of an instant. @param {number} moment */
function onServer(moment) {
  const zone = state.policy?.server.timezone;
  try {
    if (zone) return new Date(moment).toLocaleString("sv", { timeZone: zone }).replace(" ", "T");
  } catch { /* a zone that this browser lacks */ }
  return new Date(moment + serverOffset()).toISOString().slice(0, 19);
}

/** Milliseconds from UTC to the server's local time. */
function serverOffset() {
  const said = state.policy && Date.parse(`${state.policy.server.now}Z`);
  return said ? Math.round((said - state.policyAt) / 9e5) * 9e5 : -new Date().getTimezoneOffset() * 6e4;
}

/** @param {string|null} text @param {{server?: string|null, form?: "day"|"time"|"relative"}} [how] */
function time(text, how = {}) {
  if (!text) return "unknown";
  const moment = Date.parse(text);
  const full = timeForm.format(moment);
  const shown = how.form === "relative" ? relative(moment) : how.form === "day" ? dayForm.format(moment) : full;
  return h("time", { datetime: text, title: `${how.form === "time" ? "" : `${full} here, `}${how.server ?? onServer(moment)} on the server` }, shown);
}

/* ---- What is known ---- */

const state = {
  token: (null), actor: "", rights: "ro", ends: 0, signIn: "link",
  keys: ([]), loaded: false, etag: (null), keystore: "",
  notes: ([]), usage: (null), policy: (null), policyAt: 0,
  findings: (null), trouble: (null),
  shown: PAGE, fresh: "", query: new URLSearchParams(location.search),
};
const haystacks = (new WeakMap());

/** @param {Key} key */
function haystack(key) {
  let found = haystacks.get(key);
  if (found === undefined) {
    const labels = Object.entries(key.labels).map(([name, value]) => `${name}=${value}`);
    found = [key.alias, key.description, key.service_account, key.created_by, (key.masked ?? "").slice(-4), ...key.roles, ...labels].join("\n").toLowerCase();
    haystacks.set(key, found);
  }
  return found;
}

/** @param {Key} key */
const isOld = (key) => key.rotated_at !== null && key.alias.endsWith(".prev");
/** @param {Key} key */
const canSuspend = (key) => key.suspended !== undefined;
/** @param {Key} key */
const ends = (key) => (key.end ??= key.expires_at ? Date.parse(key.expires_at) : Infinity);
/** @param {Key} key */
const isOver = (key) => ends(key) <= Date.now();
/** @param {Key} key */
const isOff = (key) => Boolean(key.suspended) || (isOver(key) && !key.unreadable);
/** @param {Key} key */
const usedAt = (key) => Date.parse(state.usage?.keys[key.alias]?.last_used_at ?? key.last_used_at ?? "") || 0;
const found = (check) => new Set((state.findings ?? []).filter((one) => one.check === check && one.severity !== "ok").flatMap((one) => one.aliases));

/** @param {Key} key */
function isUnused(key) {
  const since = Date.now() - STALE;
  if (usedAt(key)) return usedAt(key) < since;
  const recording = Date.parse(state.usage?.recording_since ?? "");
  return recording <= since && Date.parse(key.created_at ?? "1970") <= since;
}

const CHIPS = ({
  expiring: { words: "expire in 30 days", tone: "warn", is: (key) => !isOld(key) && !isOff(key) && ends(key) - Date.now() <= SOON },
  never: { words: "never expire", tone: "", is: (key) => !key.unreadable && ends(key) === Infinity },
  unused: { words: "unused for 90 days", tone: "", is: (key) => !isOff(key) && isUnused(key) },
  policy: { words: "against the policy", tone: "warn", is: (key) => against.has(key.alias) },
  unreadable: { words: "unreadable", tone: "bad", is: (key) => key.unreadable !== null },
});
let against = (new Set());

/* ---- The API ---- */

function address(alias) {
  const bytes = [];
  for (const one of alias) {
    const point = (one.codePointAt(0));
    // A lone surrogate, which the URL functions refuse, has three bytes of its own.
    if (point >= 0xd800 && point <= 0xdfff) bytes.push(0xed, 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    else bytes.push(...new TextEncoder().encode(one));
  }
  return `/v1/keys/~${btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

function requestId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} method @param {string} path
 * @param {{body?: any, headers?: Record<string, string>, background?: boolean}} [more]
 * @returns {Promise<Reply>}
 */
async function api(method, path, more = {}) {
  const headers = ({ ...more.headers });
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  if (more.background) headers["X-Apikey-Background"] = "1";
  if (more.body !== undefined) headers["Content-Type"] = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: more.body === undefined ? undefined : JSON.stringify(more.body), cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(45e3) });
  } catch {
    throw new Refusal({ status: 0, code: "no-answer", detail: "The console does not answer. It may have been stopped, or the connection is broken.", hint: "Nothing that you typed is lost.", field: null });
  }
  const left = answer.headers.get("X-Apikey-Session");
  if (left) state.ends = Date.now() + 1e3 * Number(left);
  const text = await answer.text();
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch { /* a proxy's own page */ }
  if (!answer.ok && answer.status !== 304) {
    const problem = data?.detail ? data : { status: answer.status, code: "no-problem", detail: `The answer was ${answer.status} ${answer.statusText}.`, hint: null, field: null };
    if (answer.status === 401 && path !== "/v1/sessions") signedOut();
    throw new Refusal(problem);
  }
  return { status: answer.status, data, etag: answer.headers.get("ETag"), expires: left ? Number(left) : null };
}

/** @param {boolean} background Returns whether anything is different. */
async function loadKeys(background) {
  const headers = (state.etag ? { "If-None-Match": state.etag } : {});
  const answer = await api("GET", "/v1/keys", { headers, background });
  const mended = state.trouble !== null;
  state.trouble = null;
  if (answer.status === 304) return mended;
  Object.assign(state, { keys: answer.data.keys, notes: answer.data.notes, keystore: answer.data.keystore, etag: answer.etag, loaded: true });
  return true;
}

async function loadUsage(background) {
  state.usage = (await api("GET", "/v1/usage", { background })).data;
}

async function loadPolicy() {
  state.policy = (await api("GET", "/v1/policy", { background: true })).data;
  state.policyAt = Date.now();
}

async function loadFindings() {
  state.findings = (await api("GET", "/v1/findings", { background: true })).data.findings;
  against = found("policy");
}

function trouble(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.problem.status !== 401) state.trouble = error.problem;
}

/* ---- Signing in and out ---- */

async function signIn(body) {
  const { data } = await api("POST", "/v1/sessions", { body });
  remember(data.token, data.actor, data.rights);
}

/** @param {string|null} token @param {string} actor @param {string} rights */
function remember(token, actor, rights) {
  Object.assign(state, { token, actor, rights });
  try {
    if (token) sessionStorage.setItem(SESSION, JSON.stringify({ token, actor, rights }));
    else sessionStorage.removeItem(SESSION);
  } catch { /* private browsing without storage: a reload asks again */ }
}

function signedOut() {
  const had = state.token !== null;
  remember(null, "", "ro");
  if (document.querySelector("dialog[open]")) signInDialog();
  else showSignIn(had ? "Your session has ended." : "");
}

const ticketIn = (text) => (text.includes("#") ? text.slice(text.indexOf("#") + 1) : text).trim();

function signInFields(then, id = "in") {
  const error = h("p.error", { role: "alert" });
  const users = state.signIn === "users";
  const name = input({ id: `${id}-user`, autocomplete: "username", required: true });
  const password = input({ id: `${id}-password`, type: "password", autocomplete: "current-password", required: true });
  const link = input({ id: `${id}-link`, autocomplete: "off", required: true, placeholder: "http://127.0.0.1:…/#…" });
  return {
    fields: [
      ...(users ? [field("MetricsHub user", name), field("Password", password)]
        : [p("Press Enter in the terminal where ", h("code", null, "apikey console"), " runs. It prints a new link: open it, or paste it here."), field("Link", link)]), error],
    async submit() {
      error.textContent = "";
      try {
        await signIn(users ? { user: name.value, password: password.value } : { ticket: ticketIn(link.value) });
        then();
      } catch (problem) {
        if (!(problem instanceof Refusal)) throw problem;
        error.textContent = [problem.problem.detail, problem.problem.hint].filter(Boolean).join(" ");
        (users ? password : link).focus();
      }
    },
  };
}

function showSignIn(why) {
  state.loaded = false;
  at("top").replaceChildren(h("div", null, brand()));
  const { fields, submit } = signInFields(start);
  const heading = h("h1", { tabindex: "-1" }, "Sign in");
  at("main").replaceChildren(h("div.lone.card", null, form([heading, why && note("", why), ...fields, h("button.main.send", null, "Sign in")], submit, "choices")));
  document.title = "Sign in · API keys";
  heading.focus();
}

/** While a dialog is open, the sign-in lies over it: what was typed stays. */
function signInDialog() {
  if (document.getElementById("again")) return;
  const box = dialog("again", "Your session has ended", "What you typed is still here.");
  const { fields, submit } = signInFields(() => { box.close(); toast("Signed in again."); }, "again");
  box.fill(fields, [h("button.main.send", null, "Sign in")], submit);
}

/* ---- Small parts ---- */

const input = (set) => h("input", { type: "text", spellcheck: "false", autocomplete: "off", ...set });

/** @param {string} label @param {HTMLInputElement|HTMLSelectElement|HTMLTextAreaElement} control @param {Child} [help] */
function field(label, control, help) {
  const error = h("p.error", { id: `${control.id}-error` });
  control.setAttribute("aria-describedby", `${control.id}-error ${help ? `${control.id}-help` : ""}`.trim());
  return h("div.field", null, h("label", { for: control.id }, label), help ? h("small", { id: `${control.id}-help` }, help) : null, control, error);
}

const form = (children, submit, look) => h("form", { class: look, novalidate: true, onsubmit: async (event) => {
  event.preventDefault();
  const target = (event.currentTarget);
  if (target.dataset.busy) return;
  target.dataset.busy = "1";
  target.setAttribute("aria-busy", "true");
  try {
    await submit();
  } finally {
    delete target.dataset.busy;
    target.removeAttribute("aria-busy");
  }
} }, ...children);

/** @param {string} id @param {string} title @param {Child} [under] @param {{firm?: boolean}} [how] */
function dialog(id, title, under, how = {}) {
  const error = h("div.problem", null);
  const box = h("dialog", { id, "aria-labelledby": `${id}-title`, "aria-describedby": under ? `${id}-under` : null, closedby: how.firm ? "none" : "closerequest" });
  const back = document.activeElement;
  const mark = back?.dataset.k;
  let done = false;
  if (how.firm) {
    box.addEventListener("cancel", (event) => event.preventDefault());
    box.addEventListener("keydown", (event) => { if (event.key === "Escape") event.preventDefault(); });
  }
  box.addEventListener("close", () => {
    if (how.firm && !done) return box.showModal();
    box.remove();
    if (document.querySelector("dialog[open]")) return;
    const again = mark ? marked(mark) : back;
    (again?.isConnected ? again : at("main")).focus();
  });
  document.body.append(box);
  return {
    element: box,
    close() { done = true; box.close(); },
    fill(body, buttons, submit) {
      box.replaceChildren(form([
        h("header", null, h("h2", { id: `${id}-title` }, title), under ? h("p", { id: `${id}-under` }, under) : null),
        h("div.body", { tabindex: "-1" }, ...body, error), h("footer", null, ...buttons)], async () => {
        clearErrors(box);
        try {
          await submit();
        } catch (problem) {
          if (!(problem instanceof Refusal)) throw problem;
          showError(box, error, problem.problem);
        }
      }));
      if (!box.open) box.showModal();
    },
  };
}

function clearErrors(box) {
  for (const one of box.querySelectorAll(".error, .problem")) one.replaceChildren();
  for (const one of box.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
}

/** Shows a problem beside its field, and takes the focus there. @param {HTMLElement} box @param {HTMLElement} rest @param {Problem} problem */
function showError(box, rest, problem) {
  if (problem.status === 401) return;
  const said = [problem.detail, problem.hint].filter(Boolean).join(" ");
  const control = problem.field && (box.querySelector(`[data-field="${CSS.escape(problem.field)}"]`));
  if (!control) {
    rest.replaceChildren(note("bad", p(said)));
    rest.scrollIntoView({ block: "nearest" });
    return;
  }
  const place = document.getElementById(`${control.id}-error`);
  place?.replaceChildren(icon("warn"), said);
  control.setAttribute("aria-invalid", "true");
  (control.matches("input, select, textarea") ? control : (control.querySelector("input")) ?? control).focus();
}

/** @param {{element: HTMLDialogElement, close: () => void}} box */
const cancel = (box, word = "Cancel") => h("button", { onclick: () => box.close() }, word);

/* ---- The frame ---- */

const VIEWS = ({ keys: "Keys", log: "Log", findings: "Findings", policy: "Policy" });

function brand() {
  return h("span.brand", null, h("img", { src: "/icon.svg", alt: "" }), h("span", null, "API keys"), state.keystore && h("small", { title: state.keystore }, `\u200e${state.keystore}\u200e`));
}

function link(query) {
  const text = new URLSearchParams(query).toString();
  return text ? `/?${text}` : "/";
}

/** @param {Record<string, string>} query @param {...Child} children */
function to(query, ...children) {
  return h("a", { href: link(query), onclick: (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(query);
  } }, ...children);
}

function go(query) {
  history.pushState(null, "", link(query));
  state.query = new URLSearchParams(query);
  state.shown = PAGE;
  show(true);
}

function frame() {
  const view = state.query.get("key") !== null ? "keys" : state.query.get("view") ?? "keys";
  const left = Math.max(1, Math.round((state.ends - Date.now()) / 6e4));
  const bad = state.findings?.filter((one) => one.severity !== "ok") ?? [];
  const tone = bad.some((one) => one.severity !== "warning") ? "bad" : "warn";
  const items = Object.entries(VIEWS).map(([name, words]) => {
    const item = to((name === "keys" ? {} : { view: name }), words,
      name === "keys" && state.loaded && h("span.count", null, state.keys.length.toLocaleString("en")),
      name === "findings" && bad.length > 0 && h("span", { class: `count ${tone}` }, bad.length));
    if (name === view) item.setAttribute("aria-current", "page");
    item.dataset.k = `nav|${name}`;
    return item;
  });
  keepFocus(() => at("top").replaceChildren(h("div", null, brand(),
    h("span.who", null, h("span", null, `${state.actor} (${state.rights === "rw" ? "" : "looks only, "}${left} min)`),
      h("button.quiet", { k: "sign-out", onclick: leave }, "Sign out")),
    h("nav", { label: "Views" }, ...items))));
}

async function leave() {
  try {
    await api("DELETE", "/v1/sessions/current");
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
  }
  remember(null, "", "ro");
  showSignIn("You have signed out.");
}

const marked = (mark) => document.querySelector(`[data-k="${CSS.escape(mark)}"]`);

/** Draws anew, and leaves the focus on what was focused. @param {() => void} draw */
function keepFocus(draw) {
  const active = document.activeElement;
  const mark = active?.dataset.k;
  draw();
  if (mark && !active?.isConnected) marked(mark)?.focus({ preventScroll: true });
}

/** @param {boolean} [moved] Whether the user has just come here. */
function show(moved) {
  if (!state.token) return;
  frame();
  const key = state.query.get("key");
  const view = state.query.get("view") ?? "keys";
  keepFocus(() => {
    if (key !== null) showKey(key);
    else if (view === "log") showLog();
    else if (view === "findings") showFindings();
    else if (view === "policy") showPolicy();
    else showKeys();
  });
  const heading = (at("main").querySelector("h1"));
  document.title = `${heading?.textContent ?? ""} · API keys`;
  if (moved) {
    scrollTo(0, 0);
    heading?.focus();
  }
}

function notes() {
  const gateway = Date.parse(state.usage?.heartbeat_at ?? "");
  const lines = [];
  if (state.trouble) {
    lines.push(note("bad", p(h("b", null, state.trouble.detail)), p(state.trouble.hint, state.loaded && " What you see is what was there before; it comes back by itself.")));
  }
  for (const one of state.notes) lines.push(note(one.code === "unreadable" ? "warn" : "", p(one.message)));
  if (state.policy && !state.policy.enforced) {
    lines.push(note("", p("A stock server lets every key do everything: roles count only behind the gateway. ",
      gateway ? h("span", null, "Gateway last seen ", time(state.usage?.heartbeat_at ?? null, { form: "relative" }), ".") : "No gateway has been seen here.")));
  }
  return lines;
}

/* ---- Keys ---- */

/** @param {string} name @param {string|null} value */
function setFilter(name, value) {
  if (value) state.query.set(name, value);
  else state.query.delete(name);
  state.shown = PAGE;
  const text = state.query.toString();
  history.replaceState(null, "", text ? `/?${text}` : "/");
  if (name === "is") drawChips();
  drawRows();
}

function selected() {
  const get = (name) => state.query.get(name);
  const words = (get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const role = get("role");
  const [label, value] = (get("label") ?? "").split(/=(.*)/s);
  const chip = CHIPS[get("is") ?? ""];
  const all = get("all") !== null || chip?.is === CHIPS.unreadable.is;
  return state.keys.filter((key) => (all || !isOff(key)) && words.every((word) => haystack(key).includes(word))
    && (!role || key.roles.includes(role)) && (!label || key.labels[label] === value) && (!chip || chip.is(key)));
}

const COLUMNS = ([
  { id: "name", words: "Name", look: "name", by: (key) => key.alias },
  { id: "key", words: "Key", look: "key" },
  { id: "roles", words: "Roles", look: "roles", by: (key) => key.roles.join() },
  { id: "created", words: "Created", look: "made", by: (key) => key.created_at ?? "" },
  { id: "by", words: "Created by", look: "by", by: (key) => key.created_by ?? "" },
  { id: "used", words: "Last used", look: "used", by: (key) => -usedAt(key) },
  { id: "expires", words: "Expires", look: "when", by: ends },
]);

/** Old keys stand below the key that follows them. @param {Key[]} keys */
function ordered(keys) {
  const [id, down] = (state.query.get("sort") ?? "name").split("-");
  const by = COLUMNS.find((one) => one.id === id)?.by ?? ((key) => key.alias);
  const values = new Map(keys.map((key) => [key, by(key)]));
  const there = new Set(keys.map((key) => key.alias));
  const under = (new Map());
  const first = keys.filter((key) => {
    const parent = isOld(key) ? key.alias.slice(0, -5) : "";
    if (!parent || !there.has(parent)) return true;
    under.set(parent, key);
    return false;
  });
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  first.sort((a, b) => (compare(values.get(a), values.get(b)) || compare(a.alias, b.alias)) * (down ? -1 : 1));
  return first.flatMap((key) => (under.has(key.alias) ? [key, under.get(key.alias)] : [key]));
}

function showKeys() {
  if (!state.loaded) {
    return at("main").replaceChildren(h("h1.hide", { tabindex: "-1" }, "Keys"), ...notes(), state.trouble ? "" : h("p.lone.soft", null, "Reading the keystore …"));
  }
  const get = (name) => state.query.get(name) ?? "";
  const roles = [...new Set([...Object.keys(state.policy?.roles ?? {}), ...state.keys.flatMap((key) => key.roles)])].sort();
  const labels = [...new Set(state.keys.flatMap((key) => Object.entries(key.labels).map(([name, value]) => `${name}=${value}`)))].sort();
  const off = state.keys.filter(isOff).length;
  const create = state.rights === "rw" && h("button.main", { k: "create", onclick: createDialog }, icon("plus"), "Create API key");
  if (!state.keys.length) {
    return at("main").replaceChildren(...notes(), h("div.card.empty", null, h("h1", { tabindex: "-1" }, "No API keys yet"), p("A key lets one service, one AI agent or one person call MetricsHub. Give each its own."), create));
  }
  const choose = (name, words, options) => h("label", null, words,
    h("select", { k: `filter|${name}`, onchange: (event) => setFilter(name, (event.target).value) },
      h("option", { value: "" }, "any"), ...options.map((one) => h("option", { value: one, selected: one === get(name) }, one))));
  at("main").replaceChildren(h("h1.hide", { tabindex: "-1" }, "Keys"), ...notes(), h("div.chips", { role: "group", label: "Show only keys that" }), timeline(),
    h("div.tools", null, h("label.find", null, "Find", input({ type: "search", k: "filter|q", value: get("q"), placeholder: "name, role, label, last four", oninput: (event) => setFilter("q", (event.target).value) })),
      choose("role", "Role", roles), choose("label", "Label", labels),
      h("label.check", null, h("input", { type: "checkbox", k: "filter|all", checked: get("all") !== "", onchange: (event) => setFilter("all", (event.target).checked ? "1" : null) }), `Show expired and suspended (${off})`), create || h("span")),
    h("div.table", null), h("p.hide", { role: "status", id: "shown" }));
  drawChips();
  drawRows();
}

function drawChips() {
  const active = state.query.get("is");
  keepFocus(() => document.querySelector(".chips")?.replaceChildren(...Object.entries(CHIPS).map(([name, chip]) => {
    const count = state.keys.filter(chip.is).length;
    const words = count === 1 ? chip.words.replace(/^(never )?expire\b/, "$1expires") : chip.words;
    return h("button", { class: `chip ${count ? chip.tone : ""}`, k: `chip|${name}`, "aria-pressed": String(active === name),
      onclick: () => setFilter("is", active === name ? null : name) }, h("b", null, count.toLocaleString("en")), words);
  })));
}

function drawRows() {
  const keys = ordered(selected());
  const [id, down] = (state.query.get("sort") ?? "name").split("-");
  const head = COLUMNS.map((one) => h("th", { class: one.look, scope: "col", "aria-sort": one.by ? (one.id === id ? (down ? "descending" : "ascending") : "none") : null }, one.by
    ? h("button", { k: `sort|${one.id}`, onclick: () => setFilter("sort", one.id === id && !down ? `${id}-down` : one.id) }, one.words) : h("span", null, one.words)));
  const rows = keys.slice(0, state.shown).map(row);
  const rest = keys.length - rows.length;
  const hidden = rows.length || state.query.get("all") ? 0 : state.keys.filter(isOff).length;
  keepFocus(() => document.querySelector(".table")?.replaceChildren(...(rows.length
    ? [h("table", null, h("caption.hide", null, "API keys"), h("thead", null, h("tr", null, ...head, h("th", { scope: "col" }, h("span.hide", null, "Actions")))), h("tbody", null, ...rows)),
      rest > 0 ? h("div.more", null, h("button", { k: "more", onclick: () => { state.shown += PAGE; drawRows(); } }, `Show ${Math.min(PAGE, rest)} more of ${rest.toLocaleString("en")}`)) : ""]
    : [h("div.empty", null, p(`No such key.${hidden ? ` ${many(hidden, "expired or suspended key")} not shown.` : ""}`), h("button", { onclick: () => go({}) }, "Show all keys"))])));
  at("shown").textContent = `${many(keys.length, "key")} found`;
}

/** @param {Key} key */
const opened = (key) => to({ key: key.alias }, key.alias);

/** @param {string} name @param {string} words @param {Key} key @param {() => void} act */
const action = (name, words, key, act) => h("button", { class: `act ${name}`, title: words, label: `${words} ${key.alias}`, k: `${name}|${key.alias}`, onclick: act }, icon(name));

/** @param {Key} key @returns {Child[]} */
function actions(key) {
  if (state.rights !== "rw") return [];
  if (isOld(key)) return [h("button.quiet", { k: `flag|${key.alias}`, label: `Finish the rotation of ${key.alias.slice(0, -5)}`, onclick: () => finishDialog(key) }, icon("flag"), "Finish")];
  return [!key.unreadable && !key.suspended && action("rotate", "Rotate", key, () => rotateDialog(key)),
    key.suspended ? action("play", "Resume", key, () => suspend(key, false)) : canSuspend(key) && action("pause", "Suspend", key, () => suspend(key, true)),
    action("trash", "Revoke", key, () => revokeDialog(key))];
}

/** @param {Key} key */
function row(key) {
  const labels = Object.entries(key.labels).map(([name, value]) => `${name}=${value}`);
  const from = state.usage?.keys[key.alias]?.addresses?.[0];
  const about = isOld(key) ? [`Old key of ${key.alias.slice(0, -5)}, ${usedAt(key) ? `still used ${relative(usedAt(key))}${from ? ` from ${from}` : ""}` : "no use recorded"}`] : [key.description, ...labels].filter(Boolean);
  return h("tr", { class: `${state.fresh === key.alias ? "new" : ""} ${isOld(key) ? "old" : isOff(key) ? "off" : ""}`, k: `row|${key.alias}`, tabindex: state.fresh === key.alias ? "-1" : null },
    h("td.name", null, opened(key), about.length ? h("small", { title: about.join("\n") }, about.join(" · ")) : null),
    h("td.key.mono", null, key.masked && key.masked.length > 20 ? `…${key.masked.slice(-4)}` : "…"),
    h("td.roles", null, ...key.roles.map((role) => h("span.tag", null, role))),
    h("td.made", null, time(key.created_at, { form: "day" })),
    h("td.by.soft", null, key.created_by ?? "unknown"),
    h("td.used", null, h("div.use", null, spark(key), lastUse(key))),
    whenCell(key), h("td.acts", null, h("div", null, ...actions(key))));
}

/** @param {Key} key */
function whenCell(key) {
  const [tone, words] = standing(key);
  return h("td", { class: `when ${tone}` }, h("span", null, tone === "bad" || (tone === "warn" && !key.suspended) ? h("span", { "aria-hidden": "true" }, "⚠ ") : null, words), key.expires_at && !key.unreadable ? h("small", null, time(key.expires_at, { form: "day", server: key.expires_on })) : null);
}

/** In what state a key is: how it looks, and in words. @param {Key} key @returns {[string, string]} */
function standing(key) {
  if (key.unreadable) return ["bad", `Unreadable: ${key.unreadable}`];
  if (key.suspended) return ["warn", "Suspended"];
  if (!key.expires_at) return ["", "Never"];
  if (isOver(key)) return ["bad", `Expired ${relative(ends(key))}`];
  return [ends(key) - Date.now() <= 7 * DAY ? "bad" : ends(key) - Date.now() <= SOON ? "warn" : "", relative(ends(key))];
}

/** @param {Key} key */
function lastUse(key) {
  const moment = usedAt(key);
  if (moment) return time(new Date(moment).toISOString(), { form: "relative" });
  return h("span.soft", null, isUnused(key) ? "not in 90 days" : "unknown");
}

/* ---- Pictures, each with its text ---- */

/** @param {Use} use */
function counted(use) {
  const accepted = (use.accepted ?? []).reduce((sum, one) => sum + one, 0);
  const refused = (use.refused ?? []).reduce((sum, one) => sum + one, 0);
  return `${accepted.toLocaleString("en")} accepted, ${refused.toLocaleString("en")} refused in ${use.accepted?.length} days`;
}

/** @param {Key} key */
function spark(key) {
  const use = state.usage?.keys[key.alias];
  if (!use?.accepted) return null;
  const picture = s("svg", { class: "spark small", width: 75, height: 22, role: "img", label: counted(use) }, s("title", {}, counted(use)));
  bars(picture, use, 75, 22, .5);
  return picture;
}

/** @param {Element} picture @param {Use} use @param {number} width @param {number} height @param {number} gap */
function bars(picture, use, width, height, gap) {
  const accepted = use.accepted ?? [];
  const refused = use.refused ?? accepted.map(() => 0);
  const most = Math.max(1, ...accepted.map((one, day) => one + refused[day]));
  const step = width / accepted.length;
  const tall = (count) => (count ? Math.max(1.5, (Math.sqrt(count / most)) * (height - 2)) : 0);
  picture.append(s("rect", { class: "base", x: 0, y: height - 1, width, height: 1 }));
  accepted.forEach((count, day) => {
    const whole = tall(count + refused[day]);
    const bad = refused[day] ? Math.max(1.5, (whole * refused[day]) / (count + refused[day])) : 0;
    const set = { x: day * step + gap / 2, width: step - gap };
    if (whole > bad) picture.append(s("rect", { ...set, y: height - 1 - whole + bad, height: whole - bad }));
    if (bad) picture.append(s("rect", { ...set, class: "no", y: height - 1 - whole, height: bad }));
  });
}

/** When keys expire in the next twelve months. */
function timeline() {
  const now = Date.now();
  const year = 365 * DAY;
  const live = state.keys.filter((key) => !isOff(key) && !key.unreadable);
  const soon = live.filter((key) => ends(key) - now <= year).sort((a, b) => ends(a) - ends(b));
  const said = `${soon.length.toLocaleString("en")} of ${many(live.length, "key")} ${soon.length === 1 ? "expires" : "expire"} in the next 12 months`;
  const width = Math.max(280, Math.min(innerWidth, 1600) - (innerWidth < 740 ? 70 : 88));
  const place = (moment) => 8 + ((moment - now) / year) * (width - 16);
  const slots = Math.floor((width - 16) / 24);
  const groups = (new Map());
  for (const key of soon) {
    const slot = Math.min(slots - 1, Math.floor(((ends(key) - now) / year) * slots));
    groups.set(slot, [...(groups.get(slot) ?? []), key]);
  }
  const most = Math.max(1, ...[...groups.values()].map((group) => group.length));
  const picture = s("svg", { viewBox: `0 0 ${width} 58`, role: "img", label: `${said}${soon.length ? `: ${soon.slice(0, 12).map((key) => `${key.alias} ${relative(ends(key))}`).join(", ")}${soon.length > 12 ? " and others" : ""}` : ""}.` });
  picture.append(s("line", { class: "axis", x1: 8, x2: width - 8, y1: 24, y2: 24 }));
  const month = new Date(now);
  month.setDate(1);
  month.setHours(0, 0, 0, 0);
  const every = width < 600 ? 3 : 1;
  for (let count = 1; count <= 12; count += 1) {
    month.setMonth(month.getMonth() + 1);
    const x = place(month.getTime());
    picture.append(s("line", { x1: x, x2: x, y1: 20, y2: 34 }));
    const words = month.toLocaleString("en", { month: "short" }) + (month.getMonth() ? "" : ` ${month.getFullYear()}`);
    if ((count % every === 0 || every === 1) && x < width - 24) picture.append(s("text", { x: x + 3, y: 50 }, words));
  }
  picture.append(s("text", { x: 8, y: 50 }, place(new Date(now).setMonth(new Date(now).getMonth() + 1, 1)) > 52 || every > 1 ? "now" : ""));
  for (const group of groups.values()) {
    const middle = ends(group[Math.floor(group.length / 2)]);
    const left = ends(group[0]) - now;
    const size = group.length === 1 ? 5.5 : Math.min(17, 8 + 9 * Math.sqrt(group.length / most));
    const dot = s("circle", { class: left <= 7 * DAY ? "now" : left <= SOON ? "near" : "", cx: place(middle), cy: 24, r: size });
    dot.append(s("title", {}, group.slice(0, 12).map((key) => `${key.alias}: ${dayForm.format(ends(key))}`).join("\n") + (group.length > 12 ? `\nand ${group.length - 12} more` : "")));
    picture.append(dot);
    if (group.length > 1) picture.append(s("text", { class: "n", x: place(middle), y: 28 }, group.length > 999 ? `${Math.round(group.length / 1e3)}k` : String(group.length)));
  }
  return h("section.card.timeline", { label: "Expiries" }, h("small", null, said), picture);
}

/* ---- Roles in words ---- */

const VERBS = ({ GET: "read", HEAD: "ask about", POST: "send to", PUT: "replace", PATCH: "change", DELETE: "delete", OPTIONS: "ask for the options of", "*": "do everything with" });

function inWords(rule) {
  const [method, path = ""] = rule.split(/ (.*)/s);
  if (rule === "* /**") return "do everything";
  const what = path === "/**" ? "everything" : path.endsWith("/**") ? `everything below ${path.slice(0, -2)}` : path;
  return `${VERBS[method] ?? method} ${what}`;
}

/** What a key with these roles may and may not do. @param {string[]} names */
function permissions(names) {
  const roles = state.policy?.roles;
  if (!roles) return { may: ["do everything: no policy says what roles mean"], not: ([]), tools: ["*"] };
  const known = names.filter((name) => Object.hasOwn(roles, name)).map((name) => roles[name]);
  const rules = [...new Set(known.flatMap((role) => role.allow))];
  const tools = [...new Set(known.flatMap((role) => role.tools ?? []))];
  const not = [];
  const writes = rules.filter((rule) => /^(\*|PUT|PATCH|DELETE|POST) /.test(rule));
  const beyond = writes.filter((rule) => !/\/(mcp|sse)\b/.test(rule));
  if (!beyond.length) not.push("change anything");
  else if (!writes.some((rule) => rule.endsWith(" /**") && !rule.slice(0, -3).includes("/"))) not.push(`change anything but ${[...new Set(beyond.map((rule) => rule.split(" ")[1]))].join(", ")}`);
  if (!rules.some((rule) => /^(GET|\*) /.test(rule))) not.push("read anything");
  if (!rules.some((rule) => /\/(mcp|sse|\*\*)/.test(rule.replace("/api/", "")))) not.push("use MCP, so no AI tool");
  for (const name of names) if (!Object.hasOwn(roles, name)) not.push(`do anything by its role ${name}: the policy has no such role`);
  return { may: rules.length ? rules.map(inWords) : ["do nothing"], not, tools };
}

const listOf = (title, lines, look) => lines.length ? [h("h3", null, title), h("ul", { class: `may ${look}` }, ...lines.map((one) => h("li", null, icon(look), h("span", null, one))))] : [];

/* ---- A key's own page ---- */

let history_ = ({ alias: "", entries: null });

async function loadHistory(alias) {
  try {
    const answer = await api("GET", `/v1/events?alias=${encodeURIComponent(alias)}&limit=100`, { background: true });
    history_ = { alias, entries: answer.data.events.reverse() };
    if (state.query.get("key") === alias) show();
  } catch (error) {
    trouble(error);
  }
}

function showKey(alias) {
  const key = state.keys.find((one) => one.alias === alias);
  const back = p(to({}, "← All keys"));
  if (!key) return at("main").replaceChildren(...notes(), back, h("div.card.empty", null, h("h1", { tabindex: "-1" }, state.loaded ? `There is no key ${alias}` : "Reading the keystore …"), state.loaded && p("It may have been revoked. The log says by whom.")));
  if (history_.alias !== alias) {
    history_ = { alias, entries: null };
    void loadHistory(alias);
  }
  const [tone, words] = standing(key);
  const { may, not, tools } = permissions(key.roles);
  const use = state.usage?.keys[alias];
  const change = state.rights === "rw" && !isOld(key);
  const button = (name, said, act, look = "") => h("button", { class: look, k: `${name}|${alias}`, onclick: act }, icon(name), said);
  const facts = ([
    ["Key", h("span.mono", null, `…${(key.masked ?? "").slice(-4)}`)],
    ["Expires", key.unreadable ? words : [words, key.expires_at && [" (", time(key.expires_at, { form: "time", server: key.expires_on }), ")"]].flat(2)],
    ["Roles", key.roles.length ? key.roles.map((one) => h("span.tag", null, one)) : "none"],
    ["Service account", key.service_account ?? `${key.alias} (the key's name)`], ["Description", key.description ?? "none"],
    ["Labels", Object.keys(key.labels).length ? Object.entries(key.labels).map(([name, value]) => h("span.tag.mono", null, `${name}=${value}`)) : "none"],
    ["Created", [time(key.created_at, { form: "time" }), ` by ${key.created_by ?? "unknown"}`]], ["Last used", [lastUse(key), use?.addresses?.length ? ` from ${use.addresses.join(", ")}` : ""]],
  ]);
  at("main").replaceChildren(...notes(), back,
    h("div.row", null, h("h1", { tabindex: "-1" }, alias), h("span", { class: `tag ${tone || "good"}` }, tone ? words : isOld(key) ? "Old key" : "Active"), h("span.grow", null),
      ...(change ? [button("edit", "Edit", () => editDialog(key)), !key.unreadable && !key.suspended && button("rotate", "Rotate", () => rotateDialog(key)),
        key.suspended ? button("play", "Resume", () => suspend(key, false)) : canSuspend(key) && button("pause", "Suspend", () => suspend(key, true)), button("trash", "Revoke", () => revokeDialog(key), "danger")] : actions(key))),
    h("div.two", null,
      h("section.card", null, h("h2", null, "About"), h("dl", null, ...facts.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, ...[value].flat())]))),
      h("section.card", null, h("h2", null, "Permissions"), ...listOf("It may", may, "yes"), ...listOf("It may not", not, "no"),
        h("h3", null, "MCP tools"), soft(tools.includes("*") ? "all" : tools.length ? tools.join(", ") : "none"),
        state.policy && !state.policy.enforced ? soft("Behind the gateway. At a stock server it may do everything.") : null),
      h("section.card", null, h("h2", null, "Use per day"), ...daily(use)),
      h("section.card", null, h("h2", null, "History"), history_.entries === null ? soft("Reading …") : entries(history_.entries, true))));
}

/** @param {Use|undefined} use */
function daily(use) {
  if (!use?.accepted) {
    const seen = state.usage?.heartbeat_at || state.usage?.recording_since;
    return [soft(seen ? "The gateway has counted no request with this key in the last 30 days." : "No gateway counts requests for this keystore, so nothing is known of its use.")];
  }
  const picture = s("svg", { class: "days", viewBox: "0 0 600 120", preserveAspectRatio: "none", role: "img", label: counted(use) });
  bars(picture, use, 600, 118, 4);
  const first = Date.parse(state.usage?.first_day ?? "");
  const most = Math.max(...use.accepted.map((one, day) => one + (use.refused?.[day] ?? 0)));
  return [soft(`${counted(use)}; at most ${most.toLocaleString("en")} a day.`), picture,
    h("div.row.soft", null, h("span.grow", null, first ? dayForm.format(first) : ""), h("span", null, "today")),
    h("p.legend", null, h("span", null, "accepted"), h("span.no", null, "refused"))];
}

/* ---- Log, findings, policy ---- */

/** @param {Entry[]} found @param {boolean} [short] */
function entries(found, short) {
  if (!found.length) return soft("Nothing has been recorded.");
  return h("ul.list", null, ...found.map((one) => h("li", null, h("span.soft", null, time(one.at, { form: "time" })), h("b", null, one.action),
    h("span", null, short ? null : state.keys.some((key) => key.alias === one.alias) ? to({ key: one.alias }, one.alias) : one.alias, short ? "by " : " by ", h("span.mono", null, one.actor), one.details && h("small", null, ` (${one.details})`)))));
}

let log = (null);

function showLog() {
  const since = state.query.get("since") ?? "30d";
  const words = (state.query.get("q") ?? "").toLowerCase();
  const shown = (log ?? []).filter((one) => !words || `${one.alias}\n${one.actor}\n${one.action}\n${one.details}`.toLowerCase().includes(words));
  const list = h("section.card", null, log === null ? soft("Reading …") : entries(shown.slice(0, 500)), shown.length > 500 ? soft(`and ${shown.length - 500} older`) : null);
  const old = at("main").querySelector("#log");
  if (old) return old.replaceChildren(list);
  at("main").replaceChildren(...notes(), h("h1", { tabindex: "-1" }, "Log"), h("div.tools", null,
    h("label.find", null, "Find", input({ type: "search", k: "filter|q", value: words, oninput: (event) => { setQuery("q", (event.target).value); showLog(); } })),
    h("label", null, "Since", h("select", { k: "filter|since", onchange: (event) => { setQuery("since", (event.target).value); void loadLog(); } },
      ...[["1d", "yesterday"], ["7d", "7 days"], ["30d", "30 days"], ["1y", "1 year"]].map(([value, said]) => h("option", { value, selected: value === since }, said))))), h("div", { id: "log" }, list));
  void loadLog();
}

function setQuery(name, value) {
  state.query.set(name, value);
  history.replaceState(null, "", `/?${state.query}`);
}

async function loadLog() {
  try {
    log = (await api("GET", `/v1/events?since=${state.query.get("since") ?? "30d"}&limit=5000`)).data.events.reverse();
  } catch (error) {
    trouble(error);
    at("main").querySelector("#log")?.before(...notes());
  }
  if (state.query.get("view") === "log") showLog();
}

const TONES = ({ ok: "good", warning: "warn", critical: "bad", unknown: "bad" });

function showFindings() {
  const order = ["critical", "unknown", "warning", "ok"];
  const sorted = [...(state.findings ?? [])].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
  at("main").replaceChildren(...notes(), h("h1", { tabindex: "-1" }, "Findings"), h("section.card", null, state.findings ? h("ul.list.found", null, ...sorted.map((one) => h("li", null,
    h("span", null, h("span", { class: `tag ${TONES[one.severity]}` }, one.severity)), h("div", null, p(one.sentence), one.hint && h("small", null, one.hint),
      one.aliases.length && one.severity !== "ok" ? p(...one.aliases.slice(0, 20).flatMap((alias, place) => [place ? ", " : "", to({ key: alias }, alias)])) : null)))) : soft("Looking …")));
}

function showPolicy() {
  const policy = state.policy;
  if (!policy) return at("main").replaceChildren(...notes(), h("h1", { tabindex: "-1" }, "Policy"));
  const roles = Object.entries(policy.roles ?? {});
  at("main").replaceChildren(...notes(), h("h1", { tabindex: "-1" }, "Policy"), soft(policy.path ? h("span", null, "These rules are in ", h("code", null, policy.path), ". They are changed there, and hold at once.") : "There is no policy file: the stock behaviour, which asks for nothing. At the shell, apikey policy init writes one."),
    h("section.card", null, h("h2", null, "Rules"), h("dl", null, ...policy.described.filter(([name]) => !name.startsWith("Role ")).flatMap(([name, said]) => [h("dt", null, name), h("dd", null, said)]))),
    h("div.two", null, ...roles.map(([name, role]) => {
      const { may, not, tools } = permissions([name]);
      const have = state.keys.filter((key) => key.roles.includes(name)).length;
      return h("section.card", null, h("div.row", null, h("h2.grow", null, name), to({ role: name }, many(have, "key"))), role.description && soft(role.description), ...listOf("May", may, "yes"), ...listOf("May not", not, "no"),
        h("h3", null, "MCP tools"), soft(tools.includes("*") ? "all" : tools.length ? tools.join(", ") : "none"),
        role.manage?.length ? soft(`Manages keys: ${role.manage.join(", ")}`) : null);
    })));
}

/* ---- Create, edit ---- */

const spoken = (text) => text.replace(/^(\d+)([ydwhm])$/, (_, count, unit) => many(Number(count), { y: "year", d: "day", w: "week", h: "hour", m: "minute" }[(unit)] ?? ""));

/** Until when a key made now with this life works. @param {number} seconds */
const until = (seconds) => `until ${onServer(Date.now() + seconds * 1e3).slice(0, 16).replace("T", ", ")}, the server’s time`;

const secondsIn = (text) => [...text.matchAll(/(\d+)([ydwhm])/g)].reduce((sum, [, count, unit]) => sum + Number(count) * ({ y: 31536e3, w: 604800, d: 86400, h: 3600, m: 60 }[(unit)] ?? 0), 0);

/** The fields that create and edit share. @param {Key|null} key */
function fields(key) {
  const rules = state.policy?.keys;
  const lives = (rules?.lifetimes.length ? rules.lifetimes : ["30d", "60d", "90d", "180d", "1y"]).filter((one) => !rules?.max_lifetime_seconds || secondsIn(one) <= rules.max_lifetime_seconds);
  const preset = rules?.default_lifetime && !lives.includes(rules.default_lifetime) ? [rules.default_lifetime] : [];
  const said = h("small", { id: "f-until", role: "status" });
  const date = input({ id: "f-date", type: "datetime-local", f: "expires_on", value: (key?.expires_on ?? "").slice(0, 16) });
  const dateField = field("Expires on, the server’s local time", date);
  const life = h("select", { id: "f-life", f: "expires_in" }, key && h("option", { value: "keep" }, key.expires_at ? `as it is: ${timeForm.format(Date.parse(key.expires_at))}` : "as it is: never"),
    ...[...preset, ...lives].map((one) => h("option", { value: one }, spoken(one))), h("option", { value: "date" }, "on a date …"), !rules?.require_expiry && !rules?.max_lifetime_seconds && h("option", { value: "never" }, "never"));
  if (!key) life.value = rules?.default_lifetime ?? (lives.includes("90d") ? "90d" : lives[0] ?? "date");
  const tell = () => {
    dateField.hidden = life.value !== "date";
    said.textContent = life.value === "never" ? "A key that never expires works until it is revoked." : secondsIn(life.value) ? until(secondsIn(life.value)) : "";
    for (const one of [life, date]) one.removeAttribute("aria-invalid");
  };
  life.addEventListener("change", tell);
  tell();
  const known = Object.keys(state.policy?.roles ?? {});
  const names = [...new Set([...known, ...(key?.roles ?? [])])];
  const typed = input({ id: "f-typed", f: "roles", value: key?.roles.join(", ") ?? "", placeholder: "none" });
  const boxes = names.map((name) => h("input", { type: "checkbox", value: name, checked: key?.roles.includes(name) ?? false }));
  const roles = known.length ? h("fieldset", { id: "f-roles", f: "roles", "aria-describedby": "f-roles-error" }, h("legend", null, `Roles${rules?.require_role ? "" : " (optional)"}`), h("p.error", { id: "f-roles-error" }),
    h("div.choices", null, ...names.map((name, place) => h("label.choice", null, boxes[place], h("span", null, h("b", null, name), h("br"), h("small", null, [state.policy?.roles?.[name]?.description, `May ${permissions([name]).may.join("; ")}.`].filter(Boolean).join(". ")))))))
    : field("Roles (optional)", typed, "Separated by commas. Without a policy file any name will do; each gets its meaning there.");
  const account = input({ id: "f-account", f: "service_account", value: key?.service_account ?? "", maxlength: "128" });
  const about = input({ id: "f-about", f: "description", value: key?.description ?? "", maxlength: "1000" });
  const labels = h("textarea", { id: "f-labels", f: "labels", rows: "2", spellcheck: "false", placeholder: "env=production", value: Object.entries(key?.labels ?? {}).map(([name, value]) => `${name}=${value}`).join("\n") });
  return {
    elements: [roles, h("div.field", null, field("Expiration", life), said), dateField, field("Description (optional)", about, "What is it for? Who notices when it ends?")],
    more: h("details", { open: key !== null }, h("summary", null, "Labels and service account"), h("div.choices", null, field("Labels, one a line", labels, "Such as env=production or team=storage; the table filters by them."), field("Service account", account, "Whom a service sees. Empty: the key’s name."))),
    /** @returns {Record<string, any>} */
    read() {
      const lines = labels.value.split("\n").map((line) => line.trim()).filter(Boolean);
      for (const line of lines) if (!line.includes("=")) throw new Refusal({ status: 422, code: "invalid-argument", detail: `'${line}' is not a label; use name=value.`, hint: null, field: "labels" });
      if (life.value === "date" && !date.value) throw new Refusal({ status: 422, code: "invalid-argument", detail: "Choose a date.", hint: null, field: "expires_on" });
      const when = life.value === "date" ? { expires_on: date.value } : life.value === "never" ? { expires_on: null } : life.value === "keep" ? {} : { expires_in: life.value };
      return { ...when, roles: known.length ? boxes.filter((one) => one.checked).map((one) => one.value) : typed.value.split(",").map((one) => one.trim()).filter(Boolean),
        service_account: account.value.trim() || null, description: about.value.trim() || null, labels: Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2))) };
    },
  };
}

function createDialog() {
  const box = dialog("create", "Create API key", "Give each service, agent and person a key of its own.");
  const name = input({ id: "f-name", f: "alias", maxlength: "128", autofocus: true, required: true, placeholder: "ci-production" });
  const kinds = Object.entries(WHO).map(([value, words]) => h("label.choice", null, h("input", { type: "radio", name: "kind", value }), words));
  const parts = fields(null);
  let sent = { text: "", id: "" };
  box.fill([field("Name", name, "Letters, digits, hyphens, dots. It is stored in lower case."),
    h("fieldset", null, h("legend", null, "Who uses it? (optional)"), h("div.choices.three", null, ...kinds)), ...parts.elements, parts.more], [cancel(box), h("button.main.send", null, "Create API key")], async () => {
    if (!name.value.trim()) throw new Refusal({ status: 422, code: "invalid-argument", detail: "Give it a name.", hint: null, field: "alias" });
    const kind = (box.element.querySelector("[name=kind]:checked"))?.value;
    const body = parts.read();
    if (body.expires_on === null) delete body.expires_on;
    if (kind) body.labels = { kind, ...body.labels };
    const request = { alias: name.value.trim(), ...body };
    // The same Idempotency-Key as long as nothing is typed anew: a lost answer makes no second key.
    if (JSON.stringify(request) !== sent.text) sent = { text: JSON.stringify(request), id: requestId() };
    const answer = await api("POST", "/v1/keys", { body: request, headers: { "Idempotency-Key": sent.id } });
    sent = { text: "", id: "" };
    box.close();
    showOnce(answer.data, "created");
  });
}

/** @param {Key} key */
async function editDialog(key) {
  let etag = "";
  try {
    const answer = await api("GET", address(key.alias));
    [key, etag] = [answer.data, answer.etag ?? ""];
  } catch (error) {
    return refused(error);
  }
  const box = dialog("edit", `Edit ${key.alias}`, "The key itself stays as it is.");
  const parts = fields(key);
  box.fill([...parts.elements, parts.more], [cancel(box), h("button.main.send", null, "Save")], async () => {
    const body = parts.read();
    for (const name of Object.keys(key.labels)) if (!Object.hasOwn(body.labels, name)) body.labels[name] = null;
    const answer = await api("PATCH", address(key.alias), { body, headers: { "If-Match": etag } });
    box.close();
    await refresh(key.alias);
    toast(answer.data.changed?.length === 0 ? `${key.alias} is like that already.` : `${key.alias} has been changed.`);
  });
}

/** Says what went wrong where no dialog is open. @param {unknown} error */
function refused(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.problem.status !== 401) toast([error.problem.detail, error.problem.hint].filter(Boolean).join(" "));
}

/** @param {string} [alias] The key that has changed. */
async function refresh(alias) {
  history_ = { alias: "", entries: null };
  try {
    await loadKeys(false);
    if (alias) state.fresh = "";
    show();
    await loadFindings();
    show();
  } catch (error) {
    trouble(error);
    show();
  }
}

/* ---- Shown once ---- */

/** @param {string} key @param {string} server @returns {Record<string, string>} */
function snippets(key, server) {
  const header = `Bearer ${key}`;
  const json = (value) => JSON.stringify(value, null, 2);
  return {
    curl: `curl -H 'Authorization: ${header}' ${server}/api/hosts`,
    Claude: `claude mcp add --transport sse metricshub ${server}/sse \\\n  --header 'Authorization: ${header}'`,
    Cursor: `// .cursor/mcp.json\n${json({ mcpServers: { metricshub: { url: `${server}/sse`, headers: { Authorization: header } } } })}`,
    "VS Code": `// .vscode/mcp.json\n${json({ servers: { metricshub: { type: "sse", url: `${server}/sse`, headers: { Authorization: header } } } })}`,
    Environment: `export METRICSHUB_API_KEY='${key}'`,
  };
}

/** Copies, also where the page has no secure context. @param {string} text @param {HTMLElement} holder */
async function copy(text, holder) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* no permission, or no secure context */ }
  if (holder instanceof HTMLInputElement) holder.select();
  else getSelection()?.selectAllChildren(holder);
  return document.execCommand("copy");
}

/** @param {() => string} text @param {() => HTMLElement} holder @param {string} words @param {HTMLElement} status */
function copyButton(text, holder, words, status) {
  const button = h("button", { onclick: async () => {
    const done = await copy(text(), holder());
    button.replaceChildren(icon(done ? "yes" : "copy"), done ? "Copied" : words);
    status.textContent = done ? "Copied to the clipboard." : "The browser does not allow it: it is selected, press Ctrl+C or ⌘C.";
    setTimeout(() => button.replaceChildren(icon("copy"), words), 4e3);
  } }, icon("copy"), words);
  return button;
}

/** @param {Key} made @param {string} done */
function showOnce(made, done) {
  const secret = made.key ?? "";
  const box = dialog("once", `${made.alias} has been ${done}`, "Store the key now. It is shown this once, and nothing can show it again.", { firm: true });
  const status = h("small", { role: "status" });
  const shown = input({ id: "secret", value: secret, readonly: true, onfocus: () => shown.select() });
  const server = input({ id: "f-server", value: remembered() });
  const code = h("pre", { tabindex: "0", id: "snippet", role: "tabpanel", "aria-labelledby": "tab-0" });
  const names = Object.keys(snippets("", ""));
  const tabs = names.map((name, place) => h("button", { role: "tab", id: `tab-${place}`, "aria-controls": "snippet", onclick: () => choose(place), onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) choose((place + step + names.length) % names.length, true);
  } }, name));
  let current = 0;
  const choose = (place, focus = false) => {
    current = place;
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === place));
      tab.tabIndex = index === place ? 0 : -1;
    });
    code.setAttribute("aria-labelledby", `tab-${place}`);
    code.textContent = snippets(secret, server.value.trim().replace(/\/+$/, ""))[names[place]];
    if (focus) tabs[place].focus();
  };
  server.addEventListener("input", () => {
    try {
      localStorage.setItem("apikey-server", server.value);
    } catch { /* no storage */ }
    choose(current);
  });
  choose(0);
  const old = made.old ? note("", p(`The old key works on as ${made.old.alias} `, made.old.expires_at ? h("span", null, "until ", time(made.old.expires_at, { form: "time", server: made.old.expires_on })) : "", ". Then Finish ends it.")) : null;
  const [, words] = standing(made);
  box.fill([h("div.field", null, h("label", { for: "secret" }, "API key"), h("div.secret", null, shown, copyButton(() => secret, () => shown, "Copy", status)), status,
    h("small", null, made.expires_at ? `Expires ${words}, on ${made.expires_on?.replace("T", " ")} the server’s time.` : "Never expires.")), old, ...(made.notes ?? []).map((one) => note("", p(one.message))),
  h("div.field", null, h("span.label", null, "Ready to paste"), h("div.tabs", { role: "tablist", label: "Snippets" }, ...tabs), code,
    h("div.row", null, h("label.soft", { for: "f-server" }, "Server"), h("div.grow", null, server), copyButton(() => code.textContent ?? "", () => code, "Copy snippet", status)))],
  [h("button.main.send", null, "I have stored it")], async () => {
    box.close();
    state.fresh = made.alias;
    await loadKeys(false).catch(trouble);
    go(state.query.get("key") !== null ? { key: made.alias } : {});
    const line = (document.querySelector("tr.new"));
    line?.focus();
    line?.scrollIntoView({ block: "center" });
    toast(`${made.alias} has been ${done}.`);
    void refreshFindings();
  });
  shown.focus();
}

function remembered() {
  try {
    return localStorage.getItem("apikey-server") || "https://metricshub.example:31888";
  } catch {
    return "https://metricshub.example:31888";
  }
}

async function refreshFindings() {
  await loadFindings().catch(trouble);
  frame();
  drawChips();
}

/* ---- Rotate, finish, suspend, revoke ---- */

/** @param {Key} key */
function rotateDialog(key) {
  const box = dialog("rotate", `Rotate ${key.alias}`, "A new key takes its name, roles and labels. The old key works on for a while, so that nothing stops.");
  const overlap = h("select", { id: "f-overlap", f: "overlap", autofocus: true }, ...[["0", "not at all: it ends now"], ["1h", "1 hour"], ["1d", "1 day"], ["2d", "2 days"], ["7d", "7 days"], ["30d", "30 days"]].map(([value, words]) => h("option", { value, selected: value === "7d" }, words)));
  const sent = requestId();
  box.fill([field("The old key works on for", overlap, "Never longer than it would have."), usedNote(key)], [cancel(box), h("button.main.send", null, "Rotate")], async () => {
    const answer = await api("POST", `${address(key.alias)}/rotation`, { body: { overlap: overlap.value }, headers: { "Idempotency-Key": `${sent}-${overlap.value}` } });
    box.close();
    showOnce(answer.data, "rotated");
  });
}

/** @param {Key} key */
function usedNote(key) {
  const moment = usedAt(key);
  const from = state.usage?.keys[key.alias]?.addresses?.[0];
  const recent = Date.now() - moment < 7 * DAY;
  return note(recent ? "warn" : "", p(moment ? `It was last used ${relative(moment)}${from ? ` from ${from}` : ""}.` : "When it was last used is unknown: no gateway has recorded it."));
}

/** @param {Key} key */
function finishDialog(key) {
  const name = key.alias.slice(0, -5);
  const box = dialog("finish", `End the old key of ${name}?`, "Requests with it are refused from now on. This cannot be undone.");
  let force = "";
  const button = h("button.danger.send", null, "End the old key");
  box.fill([usedNote(key)], [cancel(box), button], async () => {
    try {
      await api("DELETE", `${address(name)}/rotation${force}`);
    } catch (error) {
      if (error instanceof Refusal && error.problem.code === "old-key-used") {
        force = "?force=true";
        button.textContent = "End it all the same";
      }
      throw error;
    }
    box.close();
    await refresh();
    toast(`The old key of ${name} has been ended.`);
  });
}

/** @param {Key} key @param {boolean} off */
async function suspend(key, off) {
  try {
    await api(off ? "POST" : "DELETE", `${address(key.alias)}/suspension`);
    await refresh();
    toast(off ? `${key.alias} is suspended: it is refused from its next request on.` : `${key.alias} works again.`, off ? "Undo" : undefined, () => void suspend(key, false));
  } catch (error) {
    refused(error);
  }
}

/** @param {Key} key */
function revokeDialog(key) {
  const box = dialog("revoke", `Revoke ${key.alias}?`, "It is refused from its next request on, its old key of a rotation too. This cannot be undone.");
  box.fill([usedNote(key), !canSuspend(key) || key.suspended ? null : p("Not sure? Suspend it first: it is refused as well, but can be resumed.")],
    [cancel(box), canSuspend(key) && !key.suspended && h("button", { onclick: () => { box.close(); void suspend(key, true); } }, icon("pause"), "Suspend instead"), h("button.danger.send", null, icon("trash"), "Revoke")], async () => {
      await api("DELETE", address(key.alias));
      box.close();
      if (state.query.get("key") === key.alias) go({});
      await refresh();
      toast(`${key.alias} has been revoked.`);
    });
}

/* ---- From the start on ---- */

let ticks = 0;

async function poll() {
  if (!state.token || document.hidden) return;
  ticks += 1;
  const before = state.trouble?.detail;
  let changed = false;
  try {
    changed = await loadKeys(true);
    if (changed || ticks % 3 === 0) await loadUsage(true);
    if (changed) await Promise.all([loadPolicy(), loadFindings()]);
  } catch (error) {
    trouble(error);
  }
  if (!state.token) return;
  if (changed || state.trouble?.detail !== before || ticks % 15 === 0) show();
  else frame();
}

async function start() {
  state.query = new URLSearchParams(location.search);
  show();
  try {
    await Promise.all([loadKeys(false), loadUsage(false), loadPolicy()]);
    show();
    await loadFindings();
  } catch (error) {
    trouble(error);
  }
  show();
}

addEventListener("popstate", () => {
  state.query = new URLSearchParams(location.search);
  show(true);
});
addEventListener("resize", () => {
  const picture = document.querySelector(".timeline");
  if (picture) picture.replaceWith(timeline());
});
document.addEventListener("visibilitychange", () => void poll());
setInterval(() => void poll(), 4e3);

async function begin() {
  const ticket = location.hash.slice(1);
  if (ticket && ticket !== "main") history.replaceState(null, "", location.pathname + location.search);
  try {
    state.signIn = (await api("GET", "/healthz")).data.sign_in;
  } catch { /* the sign-in will say so */ }
  try {
    const kept = JSON.parse(sessionStorage.getItem(SESSION) ?? "null");
    if (kept) remember(kept.token, kept.actor, kept.rights);
  } catch { /* nothing kept */ }
  if (ticket.length > 20) {
    try {
      await signIn({ ticket });
    } catch (error) {
      if (!state.token) return showSignIn(error instanceof Refusal ? error.problem.detail : "");
    }
  }
  if (state.token) await start();
  else showSignIn("");
}

addEventListener("hashchange", () => { if (location.hash.length > 20) void begin(); });
void begin();
