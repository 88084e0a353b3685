// The page plays Clerk's browser SDK: it signs in by fetching a session token, sets Clerk's cookies on this origin,
// and fetches a new token before the old one ends. All it knows is in the cookies, so a reload keeps the session.

const REFRESH_MS = 50_000; // as Clerk's SDK, for tokens of 60 s
const CALLS = [
  ["/public/hello", "public: no token is looked at"],
  ["/optional/hello", "optional: anonymous or signed in"],
  ["/hello", "signed in only"],
  ["/admin/hello", "role org:admin only"],
  ["/template/hello", "token of the JWT template convex", "convex"],
];

const $ = (id) => document.getElementById(id);
const config = await (await fetch("/public/config.json")).json();
let users = [];
let session = null; // {user, org, token, claims}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// --- session ---------------------------------------------------------------------------------------------------------

async function ask(path, body) {
  const { response, answer } = await answered(path, body);
  if (response.ok) return answer;
  notice(answer.error);
  throw new Error(answer.error);
}

async function answered(path, body) {
  try {
    const init = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(config.issuer + path, init);
    const answer = await response.json();
    if (response.ok) notice("");
    return { response, answer };
  } catch (error) {
    notice(`The local issuer at ${config.issuer} did not answer (${error.message}). Is gateway dev still running?`);
    throw error;
  }
}

const sessionOptions = (user, org) => ({ user, org, expires_in: 60 });

async function signIn(user, org) {
  const { response, answer } = await answered("/dev/token", sessionOptions(user, org));
  if (!response.ok) return refused(answer.error);
  const { __session: _, ...others } = answer.cookies;
  for (const [name, value] of Object.entries(others)) setCookie(name, value);
  keep(user, org, answer);
}

/** Say why somebody may not sign in, and show who may now: people are changed on the issuer's page. */
async function refused(why) {
  users = await ask("/dev/users");
  build();
  show();
  notice(why);
}

async function refresh() {
  if (!session) return;
  const { user, org } = session;
  const { response, answer } = await answered("/dev/token", sessionOptions(user, org));
  if (!response.ok) return refused(answer.error);
  if (session?.user === user && session.org === org) keep(user, org, answer); // signed out or changed meanwhile: no
}

function keep(user, org, { token, claims }) {
  session = { user, org, token, claims };
  setCookie("__session", token);
  show();
}

function signOut() {
  session = null;
  // Also those with a suffix, which a sign-in at /app leaves: either pair would do for the gateway.
  for (const name of document.cookie.split("; ").map((pair) => pair.split("=")[0])) {
    if (name.startsWith("__session")) document.cookie = `${name}=; path=/; max-age=0`;
    if (name.startsWith("__client_uat")) setCookie(name, "0"); // Clerk's word for: signed out everywhere
  }
  show();
}

function setCookie(name, value) {
  document.cookie = `${name}=${value}; path=/; SameSite=Lax`;
}

function cookie(name) {
  return document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

function remembered() {
  const payload = cookie("__session")?.split(".")[1];
  if (!payload || !Number(cookie("__client_uat"))) return null;
  try {
    const claims = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
    return users.some((user) => user.id === claims.sub) ? [claims.sub, claims.o?.id ?? "none"] : null;
  } catch {
    return null;
  }
}

const fresh = () => session.claims.exp * 1000 - Date.now() > 5_000;

// --- calls -----------------------------------------------------------------------------------------------------------

async function call(path, template) {
  const by = document.querySelector("input[name=by]:checked").value;
  const headers = {};
  if ($("spoof").checked) headers["X-User-Id"] = "user_mallory";
  if (session && !fresh()) await refresh(); // timers sleep with the computer
  if (by === "header" && session) headers.Authorization = `Bearer ${template ? await templateToken(template) : session.token}`;
  const started = performance.now();
  try {
    const response = await fetch(path, { headers, credentials: by === "cookie" ? "same-origin" : "omit", cache: "no-store" });
    const body = await response.json();
    report({ path, template, by, status: response.status, body, took: performance.now() - started });
  } catch (error) {
    notice(`No answer from the gateway (${error.message}). Is gateway dev still running?`);
  }
}

async function templateToken(template) {
  return (await ask("/dev/token", { user: session.user, template, expires_in: 60 })).token;
}

function curl({ path, template, by }) {
  const words = ["curl"];
  if (by !== "nothing" && session) {
    const token = `$(${[config.token_command, ...tokenOptions(by === "header" && template)].join(" ")})`;
    words.push(by === "header" ? `-H "Authorization: Bearer ${token}"` : `-b "__session=${token}; __client_uat=1; __clerk_db_jwt=dvb_1"`);
  }
  if ($("spoof").checked) words.push('-H "X-User-Id: user_mallory"');
  return [...words, location.origin + path].join(" ");
}

function tokenOptions(template) {
  return ["--user", session.user, ...(template ? ["--template", template] : ["--org", session.org])];
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function report(result) {
  const { status, body, took, path } = result;
  const refused = body.code !== undefined && body.status === status; // problem+json is the gateway's own
  const words = refused ? `Refused by the gateway: ${[body.code, body.reason].filter(Boolean).join(", ")}` : body.user ? `Passed, as ${body.user.id}` : "Passed, as nobody";
  $("status").className = `status ${refused ? "refused" : "passed"}`;
  $("status").replaceChildren(element("strong", { textContent: status }), element("span", { textContent: words }),
    element("span", { textContent: `GET ${path}, ${took.toFixed(0)} ms` }));
  const seen = refused
    ? [heading("The gateway's answer"), json(body), heading("What the upstream saw"), element("p", { textContent: "Nothing." })]
    : [heading("What the upstream saw"), table(body.headers ?? [])];
  $("outcome").replaceChildren(...seen, heading("The same in a terminal"), copyable(curl(result)), ...tokenDetails());
  $("status").scrollIntoView({ block: "nearest" }); // below the buttons on a narrow screen
}

const heading = (text) => element("h3", { textContent: text });
const json = (value) => element("pre", { textContent: JSON.stringify(value, null, 2) });

function table(headers) {
  const isIdentity = ([name]) => /^x[-_]user[-_]/i.test(name);
  const sorted = [...headers.filter(isIdentity), ...headers.filter((pair) => !isIdentity(pair))];
  return element("table", {}, element("tbody", {}, ...sorted.map((pair) =>
    element("tr", { className: isIdentity(pair) ? "identity" : "" }, ...pair.map((text) => element("td", { textContent: text }))))));
}

function copyable(text) {
  const button = element("button", { type: "button", className: "plain", textContent: "Copy" });
  button.onclick = async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  };
  return element("div", { className: "copy" }, element("pre", { textContent: text }), button);
}

function tokenDetails() {
  if (!session) return [];
  return [element("details", {}, element("summary", { textContent: "Claims of the session token" }), json(session.claims))];
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

const barred = (user) => ["banned", "locked"].filter((word) => user[word]);
const roleName = (role) => role.replace("org:", "");

function identities() {
  return users.flatMap((user) => {
    const choices = user.organisations.map((org) => ({ user, org: org.id, words: [...barred(user), `${roleName(org.role)} of ${org.name}`].join(", ") }));
    return choices.length ? choices : [{ user, org: "none", words: [...barred(user), user.pending ? "sign-up unfinished" : "no organisation"].join(", ") }];
  });
}

function show() {
  const all = identities();
  const current = session && all.find(({ user, org }) => user.id === session.user && org === session.org);
  $("who").textContent = current ? `${current.user.name}, ${current.words}` : "signed out";
  $("session").textContent = current
    ? `${session.user} · token until ${new Date(session.claims.exp * 1000).toLocaleTimeString()}, renewed by itself · cookies __session and __client_uat are set`
    : "Pick someone, then call something: you will see what the gateway did and what the upstream saw.";
  $("sign-out").disabled = !current;
  for (const button of $("people").children) button.ariaPressed = String(button.value === identityKey(current));
}

const identityKey = (identity) => (identity ? `${identity.user.id} ${identity.org}` : "");

function build() {
  $("people").replaceChildren(...identities().map((identity) => {
    const button = element("button", { type: "button", value: identityKey(identity), ariaPressed: "false" },
      identity.user.name, element("small", { textContent: identity.words }));
    button.onclick = () => signIn(identity.user.id, identity.org);
    return button;
  }));
  $("calls").replaceChildren(...CALLS.map(([path, words, template]) => {
    const button = element("button", { type: "button" }, element("code", { textContent: `GET ${path}` }), element("small", { textContent: words }));
    button.onclick = () => call(path, template);
    return button;
  }));
  $("sign-out").onclick = signOut;
  $("issuer").href = config.issuer;
}

users = await ask("/dev/users");
build();
show();
const before = remembered();
if (before) await signIn(...before);
setInterval(refresh, REFRESH_MS);
