/**
 * Returns the address of a WebSocket. The URL may be relative to the page, and may have the scheme
 * http or https.
 *
 * @throws TypeError if the URL is invalid, or is relative and there is no page.
 */
export function address(url: string | URL): URL {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  const address = new URL(url, base);
  address.protocol = address.protocol.replace(/^http/, "ws");
  address.hash = ""; // older browsers refuse a WebSocket URL with a fragment
  return address;
}
