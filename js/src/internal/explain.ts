import { asString } from "./wire.js";

const FETCH_TIMEOUT = 5_000; // milliseconds

/** The longest wait that a server can ask for, in milliseconds. */
export const MAX_WAIT = 3_600_000;

/** Refusal describes why no WebSocket opened. */
export interface Refusal {
  /** For humans. */
  readonly reason: string;
  /** Whether the same attempt would be refused again. */
  readonly final: boolean;
  /** The wait in milliseconds that the server asks for, one hour at most. */
  readonly retryAfter: number;
  /** Undefined if there was no response. */
  readonly httpStatus?: number;
}

/**
 * Finds out with a plain request why the WebSocket of this URL did not open, which a browser does
 * not tell the page. The server answers both in the same way.
 *
 * known: whether there has been a connection. If so, only a refusal in the form of our server's
 * errors is final, because a proxy may send any response while the server is replaced.
 */
export async function explain(
  url: Promise<URL>, token: string | undefined, known: boolean,
): Promise<Refusal> {
  try {
    const { href } = await url;
    const response = await fetch(href.replace(/^ws/, "http"), {
      cache: "no-store",
      credentials: "include",
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.timeout(FETCH_TIMEOUT),
    });
    return toRefusal(response, await response.json().catch(() => null), known);
  } catch {
    return {
      reason: "the server cannot be reached, or refuses requests from this origin",
      final: false,
      retryAfter: 0,
    };
  }
}

function toRefusal({ status, headers }: Response, body: unknown, known: boolean): Refusal {
  const retryAfter = headers.get("Retry-After");
  const error = asString(Object(body).error);
  const ownFormat = error !== undefined && Object.keys(Object(body)).length === 1;
  return {
    reason: reasonFor(status, error),
    final: [400, 401, 403, 404, 405, 431].includes(status) && retryAfter === null &&
      (!known || ownFormat),
    retryAfter: retryAfter === null ? 0 : parseRetryAfter(retryAfter, headers.get("Date")),
    httpStatus: status,
  };
}

/**
 * Returns the milliseconds of a Retry-After header, which is a number of seconds or a date: RFC
 * 9110, section 10.2.3. A date is compared with the Date header if the page may read it, so that
 * the server's clock applies.
 */
function parseRetryAfter(retryAfter: string, date: string | null): number {
  const seconds = Number(retryAfter);
  const now = Date.parse(date ?? "") || Date.now();
  const wait = Number.isNaN(seconds) ? Date.parse(retryAfter) - now : 1_000 * seconds;
  return Math.min(Math.max(0, wait) || 0, MAX_WAIT);
}

function reasonFor(status: number, error: string | undefined): string {
  if (status === 426) {
    return "the server answers, but no WebSocket opens: a proxy blocks it";
  }
  return error ?? `HTTP ${status}`;
}
