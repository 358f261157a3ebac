import type { Client, Options, Token, Url } from "./api.js";
import { address } from "./internal/address.js";
import { RealtimeClient } from "./internal/client.js";
import { takeKey } from "./internal/pagekey.js";
import { Source } from "./internal/source.js";

const shared = new Map<string, RealtimeClient>();

/**
 * Connects to a server, and reconnects as long as that makes sense. It returns at once. Messages,
 * calls and joins that are made before there is a connection wait for one.
 *
 * A second call with the same URL, and the same token if that is a string, returns the same client,
 * with the options of the first call. That client ends when each caller has closed it. If it has
 * stopped connecting, the call makes it try again. Use a function as URL to get a separate client.
 *
 * @throws TypeError if the URL is invalid, or is relative and there is no page.
 * @throws Error if there is no WebSocket.
 */
export function connect<
  Events extends object = Record<string, any>,
  Calls extends Record<keyof Calls, [request: any, response: any]> = Record<string, [any, any]>,
>(url: Url, options: Options = {}): Client<Events, Calls> {
  const client = typeof url === "function"
    ? create(url, options, () => {})
    : share(address(url), options);
  client.references.add();
  return client as unknown as Client<Events, Calls>;
}

function share(url: URL, options: Options): RealtimeClient {
  const key = keyOf(url, options.token);
  const known = shared.get(key);
  if (known) {
    if (known.status.state === "closed") known.reconnect();
    return known;
  }
  const client = create(url, options, () => shared.delete(key));
  shared.set(key, client);
  return client;
}

function keyOf(url: URL, token: Token | undefined): string {
  return JSON.stringify([url, typeof token === "string" ? token : null]);
}

function create(url: Url, options: Options, forget: () => void): RealtimeClient {
  const Socket = options.WebSocket ?? globalThis.WebSocket;
  if (!Socket) throw new Error("no WebSocket available: pass one as an option");
  const [key, releaseKey] = takeKey();
  return new RealtimeClient(new Source(url, options.token, key), Socket, options.outbox, () => {
    forget();
    releaseKey();
  });
}
