/**
 * The address of a WebSocket, from one that may be relative to the page and may be HTTP's.
 *
 * @throws TypeError if it is none, or is relative where there is no page.
 */
export function address(url: string | URL): URL {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  const address = new URL(url, base);
  address.protocol = address.protocol.replace(/^http/, "ws");
  address.hash = ""; // older browsers take it for an error
  return address;
}
