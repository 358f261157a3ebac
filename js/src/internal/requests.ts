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
  /** The largest message that may be written. */
  readonly maxBytes: number;
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

  constructor({ messages = 100, bytes = 1_048_576 }: Outbox = {}) {
    this.#most = { messages, bytes };
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
    if (!this.#line && this.#isFullFor(size)) {
      return settle(new RealtimeError("outbox_full", "too much waits for a connection already"));
    }
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

  #isFullFor(size: number): boolean {
    return this.#pending.size >= this.#most.messages || this.#bytes + size > this.#most.bytes;
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
