import type { Status } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Backoff } from "./backoff.js";
import {
  concernsAllClients, EXPIRED, LOST, mayReconnect, mayResume, NORMAL, PROTOCOL_ERROR,
} from "./closecode.js";
import { explain, MAX_WAIT } from "./explain.js";
import { Link, type End, type Socket, type Welcome } from "./link.js";
import type { Credentials, Source } from "./source.js";
import { onWake } from "./wake.js";
import type { Data, Frame } from "./wire.js";

// All in milliseconds.
const STABLE_AFTER = 10_000; // time after which a connection counts as a success
const ATTEMPT_TIMEOUT = 30_000; // time for functions of the application
const RESTART_INTERVAL = 1_000; // time for which an attempt begun by reconnect is not restarted

/** ConnectionHandler is called with the events of a connection. */
export interface ConnectionHandler {
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  /** resumable: whether the next connection may resume the session. */
  lost(resumable: boolean): void;
  status(status: Status): void;
}

/** Failure describes how a connection or an attempt ended. */
type Failure = Pick<Status, "code" | "reason" | "httpStatus" | "error">;

/** Connection opens one link after another, as long as that makes sense. */
export class Connection {
  readonly #source: Source;
  readonly #Socket: Socket;
  readonly #handler: ConnectionHandler;
  readonly #removeWakeListeners: () => void;
  readonly #backoff = new Backoff();
  #status: Status = { state: "connecting", willRetry: true };
  #attempt = 0; // number of the last attempt; answers to earlier ones are ignored
  #link: Link | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #openSince = 0;
  #restarted = -Infinity; // when reconnect last began an attempt
  #spread = 0; // milliseconds over which all clients reconnect
  #connectedBefore = false; // there has been a connection, so the server accepts this client
  #renewed = false; // the credentials are new and not proven by a stable connection
  #closed = false; // by the application

  constructor(source: Source, Socket: Socket, handler: ConnectionHandler) {
    this.#source = source;
    this.#Socket = Socket;
    this.#handler = handler;
    this.#removeWakeListeners = onWake(() => this.#wake());
    void this.#dial();
  }

  get status(): Status {
    return this.#status;
  }

  /** The number of bytes that were written and not sent yet. */
  get buffered(): number {
    return this.#link?.buffered ?? 0;
  }

  write(data: Data): void {
    this.#link?.write(data);
  }

  /**
   * Tries to connect now, also if the client has stopped. Restarts an attempt in progress. Checks
   * an open connection.
   */
  reconnect(): void {
    const { state } = this.#status;
    if (this.#closed) return;
    if (state === "open") return this.#link?.probe();
    const now = performance.now();
    // Otherwise a token function that calls reconnect would never finish.
    if (state === "connecting" && now - this.#restarted < RESTART_INTERVAL) return;
    this.#restarted = now;
    void this.#dial();
  }

  /** Ends the connection for good. */
  close(): void {
    const { state } = this.#status;
    this.#closed = true;
    this.#attempt++;
    clearTimeout(this.#timer);
    this.#removeWakeListeners();
    this.#link?.close();
    if (state === "open") this.#handler.lost(false);
    if (state !== "closed") this.#stop({ code: NORMAL, reason: "closed by the application" });
  }

  #wake(): void {
    if (this.#status.state !== "closed") this.reconnect();
  }

  async #dial(): Promise<void> {
    const attempt = ++this.#attempt;
    this.#link?.close();
    this.#link = undefined;
    this.#limitAttempt();
    this.#set({ state: "connecting", willRetry: true });
    await undefined; // let the application get the client before its functions run
    if (attempt !== this.#attempt) return;
    try {
      const credentials = await this.#source.next();
      if (attempt === this.#attempt) this.#open(credentials);
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
    }
  }

  /** Ends an attempt that takes too long. */
  #limitAttempt(): void {
    this.#setTimer(ATTEMPT_TIMEOUT, () => {
      this.#attempt++; // later answers are ignored
      this.#failed(new Error("the token or URL function did not return in time"));
    });
  }

  #setTimer(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  #open(credentials: Credentials): void {
    clearTimeout(this.#timer);
    this.#link = new Link(this.#Socket, credentials, {
      welcome: (welcome) => this.#opened(welcome),
      frame: (frame) => this.#handler.frame(frame),
      end: (end) => this.#ended(end, credentials),
    });
  }

  #opened(welcome: Welcome): void {
    this.#openSince = performance.now();
    this.#connectedBefore = true;
    this.#spread = Math.min(welcome.reconnectMs, MAX_WAIT);
    this.#status = { state: "open", willRetry: true }; // for what the handler calls
    this.#handler.welcome(welcome);
    this.#handler.status(this.#status);
  }

  /** Handles an attempt that ended before there was a socket. */
  #failed(error: unknown): void {
    const failure = { reason: error instanceof Error ? error.message : String(error), error };
    if (error instanceof RealtimeError && !this.#maybeProxy(error)) this.#stop(failure);
    else this.#wait(failure, this.#backoff.next());
  }

  /** Reports whether an error may come from another server that answers while ours is replaced. */
  #maybeProxy({ code }: RealtimeError): boolean {
    return this.#connectedBefore && (code === "bad_token" || code === "bad_url");
  }

  #ended(end: End, credentials: Credentials): void {
    const wasOpen = this.#status.state === "open";
    this.#link = undefined;
    if (wasOpen) this.#lost(end.code);
    if (end.code === EXPIRED && this.#source.renewable && !this.#renewed) {
      this.#renewed = true;
      this.#wait(end, 0);
    } else if (end.code === LOST && !wasOpen) {
      void this.#explain(end, credentials);
    } else if (
      mayReconnect(end.code) ||
      (end.code === PROTOCOL_ERROR && this.#connectedBefore && !wasOpen)
    ) {
      const spread = wasOpen && concernsAllClients(end.code) ? this.#spread : 0;
      this.#wait(end, this.#backoff.next(spread));
    } else {
      this.#stop(end);
    }
  }

  #lost(code: number): void {
    if (performance.now() - this.#openSince >= STABLE_AFTER) {
      this.#backoff.reset();
      this.#renewed = false;
    }
    this.#handler.lost(mayResume(code));
  }

  async #explain({ code }: End, { url, token }: Credentials): Promise<void> {
    const attempt = this.#attempt;
    this.#limitAttempt();
    const refusal = await explain(this.#source.urlForRetry(url), token, this.#connectedBefore);
    if (attempt !== this.#attempt) return;
    const { final, retryAfter, ...reason } = refusal;
    if (final) this.#stop({ code, ...reason });
    else this.#wait({ code, ...reason }, retryAfter + this.#backoff.next());
  }

  #wait(failure: Failure, ms: number): void {
    const retryIn = Math.round(ms);
    this.#setTimer(retryIn, () => void this.#dial());
    this.#set({ state: "waiting", willRetry: true, retryIn, ...failure });
  }

  #stop(failure: Failure): void {
    clearTimeout(this.#timer);
    this.#link = undefined;
    this.#set({ state: "closed", willRetry: false, ...failure });
  }

  #set(status: Status): void {
    this.#status = status;
    this.#handler.status(status);
  }
}
