import type { Outbox } from "../api.js";
import { RealtimeError } from "../errors.js";
import { encode, sizeOf, type Data } from "./wire.js";

/** What a request asks for. */
export interface Body {
  type: string;
  content?: unknown;
  [member: string]: unknown;
}

/** Called once with the answer, at once when that comes. */
export type Settle = (error: RealtimeError | null, content?: unknown) => void;

/** How a request is made. */
export interface Manner {
  /** Whether the next connection sends it again, if this one ends before the answer. */
  repeat?: boolean;
  /** Milliseconds for the answer. 0, or more than a timer can: no limit. */
  timeout?: number;
}

/** A connection that requests can be written to. */
export interface Line {
  write(data: Data): void;
  /** Bytes that were written and have not left yet. */
  readonly buffered: number;
  /** The largest message that may be written. */
  readonly maxBytes: number;
  /** How many calls of the server are being answered. */
  calls: number;
}

interface Request {
  readonly data: Data;
  readonly size: number;
  readonly repeat: boolean;
  readonly settle: Settle;
  readonly timer: ReturnType<typeof setTimeout> | undefined;
  sent: boolean;
}

/** Requests are those that wait for a connection, and those that wait for their answer. */
export class Requests {
  readonly #most: Required<Outbox>;
  readonly #pending = new Map<unknown, Request>(); // by id, in the order in which they were made
  #lastId = 0;
  #bytes = 0;
  #line: Line | undefined;

  constructor({ messages = 500, bytes = 2_097_152 }: Outbox = {}) {
    this.#most = { messages, bytes };
  }

  /** Whether what was written does not leave. */
  get stalled(): boolean {
    return this.#line !== undefined && this.#line.buffered >= this.#most.bytes;
  }

  /**
   * Why the application may ask for nothing more: so much waits already, for a connection or for
   * answers. rooms is how many of these wait to be joined. What keeps a connection as it is, such
   * as a leave or an acknowledgement, may be made in any case.
   */
  refusal(rooms = 0): RealtimeError | undefined {
    const { messages, bytes } = this.#most;
    const few = Math.max(rooms, this.#pending.size) < messages && this.#bytes < bytes;
    if (few && !this.stalled) return undefined; // what was given up may not have left yet
    return new RealtimeError("outbox_full", "too much waits for the server already");
  }

  get connected(): boolean {
    return this.#line !== undefined;
  }

  /** Sends a request, or keeps it until there is a connection. */
  make(body: Body, settle: Settle, { repeat = false, timeout = 0 }: Manner = {}): void {
    const { type, ...members } = body;
    const id = ++this.#lastId;
    const data = encode({ type, id, ...members });
    const size = sizeOf(data);
    const timer = timeout > 0 && timeout < 2 ** 31
      ? setTimeout(() => this.#giveUp(id, timeout), timeout)
      : undefined;
    const request = { data, size, repeat, settle, timer, sent: false };
    this.#pending.set(id, request);
    this.#bytes += size;
    if (this.#line) this.#send(this.#line, id, request);
  }

  /** Writes to this connection from now on. What has waited for it goes out with flush. */
  open(line: Line): void {
    this.#line = line;
  }

  flush(): void {
    for (const [id, request] of this.#pending) {
      if (this.#line && !request.sent) this.#send(this.#line, id, request);
    }
  }

  /** Ends what must not be sent again, now that the connection is gone. */
  cut(): void {
    this.#line = undefined;
    const error = new RealtimeError("disconnected", "the connection ended before the answer");
    for (const [id, request] of this.#pending) {
      if (!request.repeat) this.answer(id, error);
      request.sent = false;
    }
  }

  /** Settles a request. An id that nobody waits for is ignored. */
  answer(id: unknown, error: RealtimeError | null, content?: unknown): void {
    const request = this.#pending.get(id);
    if (!request) return;
    this.#pending.delete(id);
    this.#bytes -= request.size;
    clearTimeout(request.timer);
    request.settle(error, content);
  }

  /** Fails all. */
  abandon(error: RealtimeError): void {
    for (const id of this.#pending.keys()) this.answer(id, error);
  }

  #send(line: Line, id: unknown, request: Request): void {
    if (request.size > line.maxBytes) { // the server would end the connection for it
      const message = `a message of ${request.size} bytes, the server takes ${line.maxBytes}`;
      return this.answer(id, new RealtimeError("too_large", message));
    }
    request.sent = true;
    line.write(request.data);
  }

  #giveUp(id: unknown, timeout: number): void {
    this.answer(id, new RealtimeError("timeout", `no answer within ${timeout} ms`));
  }
}
