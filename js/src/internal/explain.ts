const PATIENCE = 5_000; // milliseconds

/** Why no WebSocket opened. */
export interface Refusal {
  /** For humans. */
  readonly reason: string;
  /** Whether the same attempt would be refused again. */
  readonly final: boolean;
  /** Milliseconds that the server wants us to wait. */
  readonly retryAfter: number;
  /** Undefined if there was no answer. */
  readonly httpStatus?: number;
}

/**
 * Asks with a plain request why the WebSocket of this URL did not open, which a browser does not
 * tell its page. The server gives the same answer.
 */
export async function explain(url: Promise<URL>, token: string | undefined): Promise<Refusal> {
  try {
    const { href } = await url;
    const response = await fetch(href.replace(/^ws/, "http"), {
      cache: "no-store",
      credentials: "include",
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.timeout(PATIENCE),
    });
    return understand(response, await response.json().catch(() => null));
  } catch {
    return {
      reason: "the server cannot be reached, or does not answer a page of another origin",
      final: false,
      retryAfter: 0,
    };
  }
}

function understand({ status, headers }: Response, body: unknown): Refusal {
  const said = headers.get("Retry-After");
  const retryAfter = said === null ? 0 : toWait(said);
  return {
    reason: reasonFor(status, Object(body).error),
    final: [400, 401, 403, 404, 405, 431].includes(status) && said === null,
    retryAfter,
    httpStatus: status,
  };
}

/** Milliseconds of a Retry-After, which is in seconds or a date: RFC 9110, section 10.2.3. */
function toWait(said: string): number {
  const seconds = Number(said);
  const wait = Number.isNaN(seconds) ? Date.parse(said) - Date.now() : 1_000 * seconds;
  return Math.max(0, wait) || 0;
}

function reasonFor(status: number, error: unknown): string {
  if (status === 426) {
    return "the server answers but no WebSocket opens: a proxy does not let it through";
  }
  return typeof error === "string" ? error : `HTTP ${status}`;
}
