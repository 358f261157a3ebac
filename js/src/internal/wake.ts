/**
 * Calls wake when the network is available again or the page becomes visible: a reason to connect
 * now, and to check an existing connection. Does nothing where there is no page. Returns a function
 * that ends this.
 */
export function onWake(wake: () => void): () => void {
  const end = new AbortController();
  const { signal } = end;
  const { document } = globalThis;
  globalThis.addEventListener?.("online", wake, { signal });
  globalThis.addEventListener?.("pageshow", (event) => {
    if (event.persisted) wake(); // the page comes from the back/forward cache
  }, { signal });
  document?.addEventListener("visibilitychange", () => {
    if (!document.hidden) wake();
  }, { signal });
  return () => end.abort();
}
