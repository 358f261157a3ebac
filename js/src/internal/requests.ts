import type { Outbox } from "../api.js";
import { RealtimeError } from "../errors.js";
import { MAX_WAIT } from "./explain.js";
import { encode, sizeOf, type Data } from "./wire.js";

const FIRST_RETRY_LIMIT = 1_000; // milliseconds
const LAST_RETRY_LIMIT = 10_000;
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
  /** Whether to send the request again that the server cannot serve for now. */
  mayRetry?: () => boolean;
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
  readonly mayRetry: () => boolean;
  timer: ReturnType<typeof setTimeout> | undefined; // of the answer, or until it is sent again
  limit: number; // half of that of the next random wait until it is sent again, in milliseconds
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
  send(body: Body, settle: Settle, options: RequestOptions = {}): void {
    const { type, ...members } = body;
    const {
      repeat = false, timeout = 0, mayRetry = () => type !== "call" && type !== "resume",
    } = options;
    const id = ++this.#lastId;
    const data = encode({ type, id, ...members });
    const size = sizeOf(data);
    const timer = timeout > 0 && timeout < 2 ** 31
      ? setTimeout(() => this.#timeOut(id, timeout), timeout)
      : undefined;
    const limit = FIRST_RETRY_LIMIT / 2;
    const request = { data, size, repeat, settle, mayRetry, timer, limit, sent: false };
    this.#pending.set(id, request);
    this.#bytes += size;
    this.#write(id, request);
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
      this.#write(id, request);
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
    clearTimeout(request.timer);
    if (error?.code === "unavailable" && request.mayRetry()) {
      return this.#postpone(id, request, error);
    }
    this.#pending.delete(id);
    this.#bytes -= request.size;
    request.settle(error, content);
  }

  /** Fails all requests. */
  end(error: RealtimeError): void {
    for (const id of this.#pending.keys()) this.answer(id, error);
  }

  /** Sends a request again after a wait, or over the next connection if that comes first. */
  #postpone(id: unknown, request: Request, error: RealtimeError): void {
    request.sent = false;
    request.limit = Math.min(2 * request.limit, LAST_RETRY_LIMIT);
    request.timer = setTimeout(() => {
      if (!request.mayRetry()) this.answer(id, error);
      else this.#write(id, request);
    }, Math.min(error.retryAfter ?? 0, MAX_WAIT) + Math.random() * request.limit);
  }

  /** Writes a request that was not sent, if there is a connection. */
  #write(id: unknown, request: Request): void {
    const connection = this.#connection;
    if (!connection || request.sent) return;
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
