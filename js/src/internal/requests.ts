import type { Outbox } from "../api.js";
import { RealtimeError } from "../errors.js";
import { encode, sizeOf, type Data } from "./wire.js";

const MAX_BUFFERED = 65_536; // bytes behind which an ephemeral message would be late

/** Body is the content of a request. */
export interface Body {
  type: string;
  content?: unknown;
  [member: string]: unknown;
}

/** Called once, synchronously with the arrival of the answer. */
export type Settle = (error: RealtimeError | null, content?: unknown) => void;

/** Options of a request. */
export interface RequestOptions {
  /** Whether the next connection sends the request again if this one ends before the answer. */
  repeat?: boolean;
  /** The time for the answer in milliseconds. 0, or more than a timer can wait: no limit. */
  timeout?: number;
}

/** An open connection to which requests can be written. */
export interface OpenConnection {
  write(data: Data): void;
  /** The number of bytes that were written and not sent yet. */
  readonly buffered: number;
  /** The size of the largest message that the server accepts. */
  readonly maxBytes: number;
  /** The number of calls from the server that are being answered. */
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

/** Requests holds the requests that wait for a connection or for an answer. */
export class Requests {
  readonly #limits: Required<Outbox>;
  readonly #pending = new Map<unknown, Request>(); // by ID, in the order of their creation
  #lastId = 0;
  #bytes = 0;
  #connection: OpenConnection | undefined;

  constructor({ messages = 500, bytes = 2_097_152 }: Outbox = {}) {
    this.#limits = { messages, bytes };
  }

  /** The number of bytes that were written and not sent yet. */
  get buffered(): number {
    return this.#connection?.buffered ?? 0;
  }

  /** Whether too many written bytes have not been sent yet. */
  get stalled(): boolean {
    return this.buffered >= this.#limits.bytes;
  }

  /**
   * Returns an error if the application must make no further requests because too many wait for a
   * connection or for answers. rooms is the number of rooms that wait to be joined. Requests that
   * the client makes by itself, such as a leave or an acknowledgement, are always allowed.
   */
  refusal(rooms = 0): RealtimeError | undefined {
    const { messages, bytes } = this.#limits;
    const hasSpace = Math.max(rooms, this.#pending.size) < messages && this.#bytes < bytes;
    if (hasSpace && !this.stalled) return undefined; // abandoned requests may still be buffered
    return new RealtimeError("outbox_full", "too many pending requests");
  }

  get connected(): boolean {
    return this.#connection !== undefined;
  }

  /** Sends a request, or keeps it until there is a connection. */
  send(body: Body, settle: Settle, { repeat = false, timeout = 0 }: RequestOptions = {}): void {
    const { type, ...members } = body;
    const id = ++this.#lastId;
    const data = encode({ type, id, ...members });
    const size = sizeOf(data);
    const timer = timeout > 0 && timeout < 2 ** 31
      ? setTimeout(() => this.#timeOut(id, timeout), timeout)
      : undefined;
    const request = { data, size, repeat, settle, timer, sent: false };
    this.#pending.set(id, request);
    this.#bytes += size;
    if (this.#connection) this.#write(this.#connection, id, request);
  }

  /** Writes a message that has no answer, unless it would have to wait. */
  sendNow(data: Data): void {
    if (!this.#connection || this.buffered > MAX_BUFFERED) return;
    this.check(data);
    this.#connection.write(data);
  }

  /** @throws RealtimeError `too_large` if the server of the connection does not accept it */
  check(data: Data): void {
    const error = tooLarge(sizeOf(data), this.#connection?.maxBytes);
    if (error) throw error;
  }

  /** Sends requests over this connection from now on. flush sends those that have waited for it. */
  open(connection: OpenConnection): void {
    this.#connection = connection;
  }

  flush(): void {
    for (const [id, request] of this.#pending) {
      if (this.#connection && !request.sent) this.#write(this.#connection, id, request);
    }
  }

  /** Fails the requests that must not be repeated after the connection was lost. */
  disconnected(): void {
    this.#connection = undefined;
    const error = new RealtimeError("disconnected", "the connection ended before the answer");
    for (const [id, request] of this.#pending) {
      if (!request.repeat) this.answer(id, error);
      request.sent = false;
    }
  }

  /** Settles a request. An unknown ID is ignored. */
  answer(id: unknown, error: RealtimeError | null, content?: unknown): void {
    const request = this.#pending.get(id);
    if (!request) return;
    this.#pending.delete(id);
    this.#bytes -= request.size;
    clearTimeout(request.timer);
    request.settle(error, content);
  }

  /** Fails all requests. */
  end(error: RealtimeError): void {
    for (const id of this.#pending.keys()) this.answer(id, error);
  }

  #write(connection: OpenConnection, id: unknown, request: Request): void {
    const error = tooLarge(request.size, connection.maxBytes);
    if (error) return this.answer(id, error);
    request.sent = true;
    connection.write(request.data);
  }

  #timeOut(id: unknown, timeout: number): void {
    this.answer(id, new RealtimeError("timeout", `no answer within ${timeout} ms`));
  }
}

/** Returns an error for a message that the server does not accept. */
export function tooLarge(size: number, maxBytes = Infinity): RealtimeError | undefined {
  if (size <= maxBytes) return undefined;
  const message = `the message has ${size} bytes, the limit is ${maxBytes}`;
  return new RealtimeError("too_large", message);
}
