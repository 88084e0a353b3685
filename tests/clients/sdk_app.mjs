// An application that Clerk's own backend SDK guards, as its middlewares do; for `gateway dev`'s issuer in Clerk's place.
// ISSUER, PUBLISHABLE_KEY and SECRET_KEY name the instance; the port goes to stdout.
import {createServer} from "node:http";
import {createClerkClient} from "@clerk/backend";

const {ISSUER, PUBLISHABLE_KEY, SECRET_KEY} = process.env;
const clerk = createClerkClient({apiUrl: ISSUER, publishableKey: PUBLISHABLE_KEY, secretKey: SECRET_KEY, telemetry: {disabled: true}});
// The Frontend API of a publishable key is https; a proxy's address may be anything.
const common = {proxyUrl: ISSUER, skipJwksCache: true};

const server = createServer(async (request, response) => {
  const url = `http://${request.headers.host}${request.url}`;
  const acceptsToken = request.headers["x-accepts"] ?? "session_token";
  const options = {...common, acceptsToken, authorizedParties: [new URL(url).origin]};
  let state;
  try {
    state = await clerk.authenticateRequest(new Request(url, {method: request.method, headers: request.headers}), options);
  } catch (error) {
    response.writeHead(500).end(String(error));
    return;
  }
  for (const [name, value] of state.headers) response.appendHeader(name, value);
  if (state.headers.get("Location")) {
    response.writeHead(307).end();
    return;
  }
  const {userId, sessionId, orgId, subject, scopes} = state.toAuth() ?? {};
  const told = {status: state.status, reason: state.reason, userId, sessionId, orgId, subject, scopes};
  response.writeHead(state.isAuthenticated ? 200 : 401, {"Content-Type": "application/json"}).end(JSON.stringify(told));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
