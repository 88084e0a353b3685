// The same requests through the gateway and through Clerk's own proxy, one after the other. Reads them as JSON from
// standard input, and tells what came of each: {gateway, clerk}, and `shown`, what Clerk's components make of an error.
import {ClerkAPIResponseError} from "@clerk/shared/error";
import {clerkFrontendApiProxy} from "@clerk/backend/proxy";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const {gateway, options, calls} = JSON.parse(Buffer.concat(chunks));

const read = async (response) => {
  const body = await response.text();
  const {status, statusText, headers} = response;
  const told = {status, location: headers.get("location"), cookies: headers.getSetCookie(), body};
  if (status < 500) return told;
  const error = new ClerkAPIResponseError(statusText, {data: JSON.parse(body).errors, status});
  return {...told, shown: error.errors.map(({code, longMessage, message}) => [code, longMessage ?? message])};
};
const answers = [];
for (const {method, path, headers, body} of calls) {
  const request = () => new Request(gateway + path, {method, headers, body, redirect: "manual"});
  answers.push({gateway: await read(await fetch(request())), clerk: await read(await clerkFrontendApiProxy(request(), options))});
}
process.stdout.write(JSON.stringify(answers));
