// Clerk's own authenticateRequest, driven line by line: a request comes on stdin, what became of it goes to stdout, as JSON.
// NOW_MS is the time it believes in, SETUPS the clients' options by name. What it logs is dropped: stdout is for answers.
import {createInterface} from "node:readline";
import {createClerkClient} from "@clerk/backend";

const now = Number(process.env.NOW_MS);
Date.now = () => now;
for (const level of ["log", "warn", "error"]) console[level] = () => {};
const setups = Object.entries(JSON.parse(process.env.SETUPS));
const clients = Object.fromEntries(setups.map(([name, {client}]) => [name, createClerkClient(client)]));
const options = Object.fromEntries(setups.map(([name, {request}]) => [name, request]));

async function answer({setup, url, method, fields, acceptsToken, pending}) {
  const request = new Request(url, {method, headers: fields});
  const state = await clients[setup].authenticateRequest(request, {...options[setup], acceptsToken});
  const {debug, getToken, has, sessionClaims, claims, ...auth} = state.toAuth({treatPendingAsSignedOut: !pending}) ?? {};
  const headers = [...state.headers].map(([name, value]) => [name.toLowerCase(), value]);
  return {status: state.status, reason: state.reason, message: state.message, headers, auth};
}

for await (const line of createInterface({input: process.stdin})) {
  const {id, ...asked} = JSON.parse(line);
  answer(asked).then((value) => ({id, value}), (error) => ({id, error: String(error?.message ?? error)}))
    .then((told) => process.stdout.write(JSON.stringify(told) + "\n"));
}
process.exit(0);
