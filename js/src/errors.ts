/**
 * Why a request failed: an answer of the server, or a reason of the client's own.
 *
 * The server's codes are `bad_request`, `unknown_type`, `unknown_event`, `unknown_method`,
 * `forbidden`, `denied`, `limit`, `too_large`, `expired`, `no_history`, `epoch` and `internal`, and
 * those of the application. The client's own:
 *
 * - `outbox_full`: too much waits already, for a connection or for answers.
 * - `too_large`: the server would not take a message of this size, so it was not sent.
 * - `timeout`: no answer came in time.
 * - `disconnected`: the connection ended before the answer to a call. It may have been done.
 * - `removed`: the server has taken us out of the room.
 * - `closed`: the client was closed, or stays away from the server.
 * - `bad_token`, `bad_url`: nothing can be connected to with these.
 */
export class RealtimeError extends Error {
  override readonly name = "RealtimeError";
  /** For programs; the message is for humans. */
  readonly code: string;

  constructor(code: string, message: string = code, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
