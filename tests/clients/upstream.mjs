// An upstream in Node that believes nothing it has not verified: the forwarded token with Clerk's own `verifyToken`, the
// assertion with `jose`. JWT_KEY is the instance's PEM, KEYS the gateway's key set; the port goes to stdout.
import {createServer} from "node:http";
import {verifyToken} from "@clerk/backend";
import {createRemoteJWKSet, jwtVerify} from "jose";

const {JWT_KEY, PARTY, GATEWAY} = process.env;
let keys;

const server = createServer(async (request, response) => {
  const {authorization = "", "x-user-assertion": assertion = "", "x-user-id": id, "x-keys": at} = request.headers;
  keys ??= createRemoteJWKSet(new URL(at));
  const told = {id};
  try {
    const claims = await verifyToken(authorization.replace("Bearer ", ""), {jwtKey: JWT_KEY, authorizedParties: [PARTY]});
    told.token = [claims.sub, claims.sid];
    const {payload} = await jwtVerify(assertion, keys, {issuer: GATEWAY, audience: "api", algorithms: ["ES256"]});
    told.assertion = [payload.sub, payload.sid];
  } catch (error) {
    told.error = String(error);
  }
  response.writeHead(told.error ? 401 : 200, {"Content-Type": "application/json"}).end(JSON.stringify(told));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
