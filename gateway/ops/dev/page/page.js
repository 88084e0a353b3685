// The local issuer's page. It shows what /dev/state says and asks for changes by POST /dev/event, as the commands do;
// it keeps nothing itself but the cookies of Clerk's browser SDK, which every port of this host shares.

const LOOK_MS = 2_000; // commands change things too
const $ = (id) => document.getElementById(id);
let state = { users: [], organizations: [], events: [], types: [], roles: [], gateway: "" };
const drawn = {}; // what each part was drawn from

function element(tag, properties = {}, ...children) {
  const { key, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  if (key) made.dataset.key = key; // finds it again after the part was drawn anew
  made.append(...children.filter((child) => child !== null));
  return made;
}

function button(words, key, act, properties = {}) {
  return element("button", { type: "button", textContent: words, key, onclick: act, ...properties });
}

function notice(text, place = "notice") {
  $(place).textContent = text;
  $(place).hidden = !text;
}

async function ask(path, body) {
  const init = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    throw new Error(`No answer (${error.message}). Is gateway dev still running?`);
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Do what somebody asked for; why it could not be done is shown at a place, and not out of sight. */
async function attempt(act, place = "notice") {
  for (const each of ["notice", "fire-notice"]) notice("", each);
  try {
    await act();
  } catch (error) {
    notice(error.message, place);
    $(place).scrollIntoView({ block: "nearest" });
  }
}

const fire = (options, place) => attempt(async () => {
  await ask("/dev/event", options);
  await look();
}, place);

// --- signing in ------------------------------------------------------------------------------------------------------

let signedIn = null; // {user, token, until}: whose answer of the gateway is shown

const signIn = (user) => attempt(async () => {
  const { token, cookies, claims } = await ask("/dev/token", { user, azp: state.gateway, expires_in: 60 });
  for (const [name, value] of Object.entries(cookies)) document.cookie = `${name}=${value}; path=/; SameSite=Lax`;
  signedIn = { user, token, until: claims.exp * 1000 };
  await call(signedIn);
  $("seen").scrollIntoView({ block: "nearest" }); // below the buttons on a narrow screen
  await look();
});

async function call(as) {
  let response;
  try {
    response = await fetch(`${state.gateway}/hello`, { headers: { Authorization: `Bearer ${as.token}` }, cache: "no-store" });
  } catch {
    signedIn = null; // it will not answer a second time either
    throw new Error(`The gateway at ${state.gateway} lets only the page at 127.0.0.1 call it: open this page there`);
  }
  const body = await response.json();
  if (as === signedIn) report(as.user, response.status, body); // else somebody else has signed in meanwhile
}

/** Show what the gateway says to the same token now that something has happened: what it said before may not hold. */
async function callAgain() {
  if (!signedIn) return;
  if (Date.now() < signedIn.until) return await call(signedIn);
  signedIn = null; // "expired" would not say what the change did
  $("outcome").replaceChildren(element("p", { className: "quiet", textContent: "Something has changed since: sign in again." }));
}

function report(user, status, body) {
  const passed = status === 200;
  const words = passed ? `${user} passed. The upstream received:` : `${user} was refused: ${status} ${body.code}, ${body.reason}`;
  const headers = (body.headers ?? []).filter(([name]) => /^x[-_]user[-_]/i.test(name));
  const rows = headers.map((pair) => element("tr", {}, ...pair.map((text) => element("td", { textContent: text }))));
  $("outcome").replaceChildren(element("p", { textContent: words }), element("table", {}, element("tbody", {}, ...rows)));
}

// --- what is shown ---------------------------------------------------------------------------------------------------

const nameOf = (user) => `${user.first_name} ${user.last_name}`.trim() || user.id;
const change = (user, set) => fire({ type: "user.updated", user, set });

function userCard(user) {
  const { id } = user;
  const key = (what) => `${what} ${id}`;
  const badges = ["banned", "locked", "pending"].filter((word) => user[word]).map((word) => element("span", { className: "badge", textContent: word }));
  return element("article", { ariaLabel: nameOf(user) },
    element("h3", {}, nameOf(user), ...badges),
    element("p", { className: "id", textContent: [id, user.email].filter(Boolean).join(" · ") }),
    element("div", { className: "row" },
      button("Sign in", key("sign-in"), () => signIn(id)),
      button(user.banned ? "Unban" : "Ban", key("ban"), () => change(id, { banned: !user.banned })),
      button(user.locked ? "Unlock" : "Lock", key("lock"), () => change(id, { locked: !user.locked })),
      user.session && button("End session", key("end"), () => fire({ type: "session.revoked", user: id })),
      button("Delete", key("delete"), () => fire({ type: "user.deleted", user: id }), { className: "grave" })),
    element("details", { key: key("change") }, element("summary", { textContent: "Change" }), userForm(user)));
}

function userForm(user) {
  const form = element("form", {},
    field("First name", "first_name", user.first_name), field("Last name", "last_name", user.last_name),
    field("E-mail", "email", user.email), field("External id", "external_id", user.external_id),
    field("Public metadata (JSON)", "public_metadata", JSON.stringify(user.public_metadata)),
    element("button", { textContent: "Save" }));
  return submitting(form, ({ public_metadata: text, ...set }) => change(user.id, { ...set, public_metadata: parsed(text) }));
}

function parsed(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return text; // the issuer says what is wrong with it
  }
}

function field(words, name, value) {
  return element("label", {}, words, element("input", { name, value, autocomplete: "off" }));
}

function organizationCard({ id, name, slug, members }) {
  const people = Object.fromEntries(state.users.map((user) => [user.id, nameOf(user)]));
  const others = state.users.filter((user) => !members.some((member) => member.user === user.id));
  const fireHere = (what, user, set) => fire({ type: `organizationMembership.${what}`, user, org: id, ...(set && { set }) });
  const rows = members.map(({ user, role }) => element("div", { className: "row" },
    element("span", { textContent: people[user] }),
    roles(role, `role ${id} ${user}`, `Role of ${people[user]}`, (chosen) => fireHere("updated", user, { role: chosen })),
    button("Remove", `remove ${id} ${user}`, () => fireHere("deleted", user), { ariaLabel: `Remove ${people[user]} from ${name}` })));
  const who = element("select", { ariaLabel: `New member of ${name}`, key: `who ${id}` }, ...others.map((user) => option(user.id, nameOf(user))));
  const add = button("Add", `add ${id}`, () => fireHere("created", who.value), { ariaLabel: `Add to ${name}` });
  return element("article", { ariaLabel: name },
    element("h3", { textContent: name }), element("p", { className: "id", textContent: `${id} · ${slug}` }), ...rows,
    element("div", { className: "row" }, ...(others.length ? [who, add] : []),
      button("Delete organisation", `delete ${id}`, () => fire({ type: "organization.deleted", org: id }), { className: "grave", ariaLabel: `Delete ${name}` })),
    element("details", { key: `rename ${id}` }, element("summary", { textContent: "Change" }),
      submitting(element("form", {}, field("Name", "name", name), field("Slug", "slug", slug), element("button", { textContent: "Save" })),
        (set) => fire({ type: "organization.updated", org: id, set }))));
}

function roles(current, key, label, choose) {
  const all = state.roles.includes(current) ? state.roles : [...state.roles, current];
  const made = element("select", { key, ariaLabel: label }, ...all.map((role) => option(role, role.replace("org:", ""))));
  made.value = current;
  made.onchange = () => choose(made.value);
  return made;
}

const option = (value, words) => element("option", { value, textContent: words });

function eventLine(event) {
  const result = event.times > 1 ? event.answers.map(({ status, answer }) => `${status ?? "no answer"} ${answer}`).join(", then ") : `${event.status ?? ""} ${event.answer}`;
  return element("li", {},
    element("span", {}, element("code", { textContent: event.type }), ` ${event.about}`),
    button(event.held ? "Send now" : "Send again", `again ${event.svix_id}`, () => fire({ again: event.svix_id })),
    element("span", { className: event.held || !event.times ? "quiet" : event.good ? "good" : "bad", textContent: result }),
    element("time", { className: "quiet", textContent: new Date(event.at).toLocaleTimeString(), dateTime: new Date(event.at).toISOString() }));
}

function submitting(form, act) {
  form.onsubmit = (event) => {
    event.preventDefault();
    act(Object.fromEntries(new FormData(form)), form);
  };
  return form;
}

/** Draw a part anew where what it is made of has changed; what was open and where the focus was stay as they were. */
function draw(part, source, make) {
  const text = JSON.stringify(source);
  if (drawn[part] === text) return;
  drawn[part] = text;
  const within = $(part);
  const open = [...within.querySelectorAll("details[open]")].map((each) => each.dataset.key);
  const focused = within.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  within.replaceChildren(...make());
  for (const each of within.querySelectorAll("details")) each.open = open.includes(each.dataset.key);
  if (focused) [...within.querySelectorAll("[data-key]")].find((each) => each.dataset.key === focused)?.focus();
}

function choices(select, options) {
  const chosen = select.value;
  select.replaceChildren(option("", "the first, or none"), ...options);
  select.value = [...select.options].some((each) => each.value === chosen) ? chosen : "";
}

let known = null; // what the last look has seen

async function look() {
  state = await ask("/dev/state");
  const { users, organizations, events } = state;
  const now = JSON.stringify([users, organizations, events]);
  const isNews = known !== null && known !== now;
  known = now;
  draw("users", users, () => users.map(userCard));
  draw("organizations", [organizations, users.map((user) => [user.id, nameOf(user)])], () => organizations.map(organizationCard));
  draw("events", events, () => (events.length ? events.map(eventLine) : [element("li", { className: "quiet", textContent: "None yet." })]));
  draw("types", state.types, () => state.types.map((type) => option(type, type)));
  if (drawn.choices !== drawn.users + drawn.organizations) {
    drawn.choices = drawn.users + drawn.organizations;
    choices($("fire").elements.user, users.map((user) => option(user.id, nameOf(user))));
    choices($("fire").elements.org, organizations.map((each) => option(each.id, each.name)));
  }
  $("gateway").href = state.gateway;
  if (isNews) await callAgain();
}

submitting($("new-user"), async (set, form) => {
  const filled = Object.fromEntries(Object.entries(set).filter(([, value]) => value));
  await fire({ type: "user.created", set: filled });
  form.reset();
});
submitting($("new-organization"), async (set, form) => {
  await fire({ type: "organization.created", set });
  form.reset();
});
submitting($("fire"), ({ type, user, org, set, twice, hold, bad_signature, old_s }) => fire({
  type, user: user || null, org: org || null, set: set.split("\n").map((line) => line.trim()).filter(Boolean),
  twice: Boolean(twice), hold: Boolean(hold), bad_signature: Boolean(bad_signature), old_s: Math.trunc(Number(old_s)) || 0,
}, "fire-notice"));

await attempt(look);
setInterval(() => look().catch((error) => notice(error.message)), LOOK_MS);
