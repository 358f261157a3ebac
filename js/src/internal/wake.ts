/**
 * Calls back when the network or the user has returned: a reason to try now, and to doubt that a
 * connection has survived. Does nothing where there is no page. Returns what ends it.
 */
export function onWake(wake: () => void): () => void {
  const end = new AbortController();
  const { signal } = end;
  const { document } = globalThis;
  globalThis.addEventListener?.("online", wake, { signal });
  globalThis.addEventListener?.("pageshow", (event) => {
    if (event.persisted) wake(); // the page was frozen when it was left
  }, { signal });
  document?.addEventListener("visibilitychange", () => {
    if (!document.hidden) wake();
  }, { signal });
  return () => end.abort();
}
