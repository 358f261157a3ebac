import type { Client, Options, Url } from "./api.js";
/**
 * Connects to a server, and comes back whenever that makes sense. It returns at once; what is sent,
 * called and joined before there is a connection waits for one.
 *
 * Connecting twice to the same URL, with the same token if that is a string, gives the same client,
 * with the options of the first; it is closed when each has closed it. A client that stays away is
 * made to try again by that. For a client of one's own the URL may be a function.
 *
 * @throws TypeError if the URL is none, or is relative where there is no page.
 * @throws Error if there is no WebSocket.
 */
export declare function connect<Events extends object = Record<string, any>, Calls extends Record<keyof Calls, [request: any, response: any]> = Record<string, [any, any]>>(url: Url, options?: Options): Client<Events, Calls>;
