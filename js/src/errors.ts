/**
 * The error of a failed request: an answer of the server, or an error of the client itself.
 *
 * Codes of the server are `bad_request`, `unknown_type`, `unknown_event`, `unknown_method`,
 * `forbidden`, `denied`, `limit`, `too_large`, `expired`, `no_history`, `epoch`, `unavailable` (of a
 * call; the client repeats all other requests) and `internal`, and those of the application. Codes of the client:
 *
 * - `outbox_full`: too many requests wait for a connection or for answers.
 * - `too_large`: the message is larger than the server accepts, so it was not sent.
 * - `timeout`: the answer did not arrive in time.
 * - `disconnected`: the connection ended before the answer to a call. The server may have run it.
 * - `removed`: the server has removed the client from the room.
 * - `closed`: the client was closed, or has stopped connecting.
 * - `bad_token`, `bad_url`: the token or the URL cannot be used.
 */
export class RealtimeError extends Error {
  override readonly name = "RealtimeError";
  /** For programs; the message is for humans. */
  readonly code: string;
  /** After how many milliseconds to try again, if the server knows that. */
  readonly retryAfter: number | undefined;
  /** More about the error, as the server's application defines it: any JSON. */
  readonly data: unknown;

  constructor(code: string, message: string = code, options: RealtimeErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.retryAfter = options.retryAfter;
    this.data = options.data;
  }
}

/** Options of a {@link RealtimeError}. */
export interface RealtimeErrorOptions {
  cause?: unknown;
  retryAfter?: number | undefined;
  data?: unknown;
}
