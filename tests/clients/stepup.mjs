// A page's fetch wrapped by Clerk's own useReverification(), without a browser: URL is asked with TOKENS[0]; where the
// hook opens its dialog, the user proves again who they are and the page has the next token. Tells what happened.
import {isReverificationHint} from "@clerk/shared/authorization-errors";
import {ClerkInstanceContext} from "@clerk/shared/react";
import {useReverification} from "@clerk/react";
import {createElement} from "react";
import {renderToStaticMarkup} from "react-dom/server";

const {URL, TOKENS} = process.env;
const tokens = JSON.parse(TOKENS);
const opened = [], hints = [];
let ask;

const clerk = {
  __internal_openReverification({level, afterVerification}) {
    opened.push(level ?? null);
    tokens.shift();
    afterVerification();
  },
};
const fetcher = async () => {
  const response = await fetch(URL, {headers: {Authorization: `Bearer ${tokens[0]}`}});
  hints.push(Boolean(isReverificationHint(await response.clone().json())));
  return response;
};
function Page() {
  ask = useReverification(fetcher);
  return null;
}
const value = {value: clerk};
renderToStaticMarkup(createElement(ClerkInstanceContext.Provider, {value}, createElement(Page)));
process.stdout.write(JSON.stringify({opened, hints, got: await ask()}) + "\n");
