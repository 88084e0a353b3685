// Convex's own clients, driven line by line: commands come on stdin, answers and events go to stdout, all as JSON.
// CONVEX_URL is the gateway's address, TOKENS gives a fresh token for each GET.
import {createInterface} from "node:readline";
import {ConvexClient, ConvexHttpClient} from "convex/browser";
import {makeFunctionReference} from "convex/server";

const {CONVEX_URL, TOKENS} = process.env;
const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const fn = makeFunctionReference;
const fresh = async () => (await fetch(TOKENS)).text();
let live;

const commands = {
  async http({kind, path, args, token, admin}) {
    const client = new ConvexHttpClient(CONVEX_URL, {logger: false});
    if (token) client.setAuth(token);
    if (admin) client.setAdminAuth(admin);
    return client[kind](fn(path), args ?? {});
  },
  open({options}) {
    const onServerDisconnectError = (message) => tell({event: "disconnected", message});
    live = new ConvexClient(CONVEX_URL, {logger: false, onServerDisconnectError, ...options});
  },
  subscribe({path, args}) {
    live.onUpdate(fn(path), args ?? {}, (value) => tell({event: "update", path, value}));
  },
  length({path}) {
    live.onUpdate(fn(path), {}, (value) => tell({event: "length", path, value: value.length}));
  },
  mutation: ({path, args}) => live.mutation(fn(path), args ?? {}),
  action: ({path, args}) => live.action(fn(path), args ?? {}),
  login() { live.setAuth(fresh, (value) => tell({event: "auth", value})); },
  logout() { live.client.clearAuth(); },
  admin({key}) { live.setAdminAuth(key); },
  connection: () => live.connectionState().connectionCount,
  close: () => live.close(),
};

for await (const line of createInterface({input: process.stdin})) {
  const {id, op, ...rest} = JSON.parse(line);
  Promise.resolve().then(() => commands[op](rest)).then(
    (value) => tell({id, value: value ?? null}),
    (error) => tell({id, error: String(error?.message ?? error)}),
  );
}
process.exit(0);
