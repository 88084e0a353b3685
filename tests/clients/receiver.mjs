// An upstream as people write it: takes deliveries and tells, a line of JSON for each, what each library makes of it.
// SECRET is what they are signed with. The first delivery of each id is answered with 500, so that it comes again.
import {createServer} from "node:http";
import {verifyWebhook} from "@clerk/backend/webhooks";
import {Webhook as Standard} from "standardwebhooks";
import {Webhook as Svix} from "svix";

const {SECRET} = process.env;
const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const only = (headers, spelling) => Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith(spelling)));
const libraries = {
  clerk: (url, headers, body) => verifyWebhook(new Request(url, {method: "POST", headers, body}), {signingSecret: SECRET}),
  svix: (_, headers, body) => new Svix(SECRET).verify(body, only(headers, "svix-")),
  unbranded: (_, headers, body) => new Svix(SECRET).verify(body, only(headers, "webhook-")),
  standard: (_, headers, body) => new Standard(SECRET).verify(body, headers),
};
const seen = new Set();

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const verdicts = {};
  for (const [name, verify] of Object.entries(libraries)) {
    try {
      const event = await verify(`http://localhost${request.url}`, request.headers, body);
      verdicts[name] = event ? event.type : JSON.parse(body).type;  // svix 2 gives nothing back
    } catch (error) {
      verdicts[name] = String(error);
    }
  }
  const id = request.headers["svix-id"];
  const repeated = seen.has(id);
  seen.add(id);
  tell({id, timestamp: request.headers["svix-timestamp"], verdicts});
  response.writeHead(repeated ? 204 : 500).end();
});
server.listen(0, "127.0.0.1", () => tell({port: server.address().port}));
process.stdin.on("end", () => process.exit()).resume();
