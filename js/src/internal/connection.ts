import type { Status } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Backoff } from "./backoff.js";
import {
  comesBack, endsAll, EXPIRED, LOST, mayResume, NORMAL, PROTOCOL_ERROR,
} from "./closecode.js";
import { explain, LONGEST_WAIT } from "./explain.js";
import { Link, type End, type Socket, type Welcome } from "./link.js";
import type { Credentials, Source } from "./source.js";
import { onWake } from "./wake.js";
import type { Data, Frame } from "./wire.js";

// All in milliseconds.
const STABLE = 10_000; // time after which a connection counts as a success
const PATIENCE = 30_000; // time for functions of the application
const RESTART = 1_000; // time for which an attempt begun by reconnect is not restarted

/** ConnectionHandler is called with the events of a connection. */
export interface ConnectionHandler {
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  /** resumable: whether the next connection may resume the session. */
  lost(resumable: boolean): void;
  status(status: Status): void;
}

/** Describes how a connection or an attempt ended. */
type Why = Pick<Status, "code" | "reason" | "httpStatus" | "error">;

/** Connection opens one link after another, as long as that makes sense. */
export class Connection {
  readonly #source: Source;
  readonly #Socket: Socket;
  readonly #handler: ConnectionHandler;
  readonly #stopWaking: () => void;
  readonly #backoff = new Backoff();
  #status: Status = { state: "connecting", willRetry: true };
  #attempt = 0; // number of the last attempt; answers to earlier ones are ignored
  #link: Link | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #openSince = 0;
  #restarted = -Infinity; // when reconnect last began an attempt
  #spread = 0; // milliseconds over which all clients reconnect
  #known = false; // there has been a connection, so the server accepts this client
  #renewed = false; // the credentials are new and not proven by a stable connection
  #over = false;

  constructor(source: Source, Socket: Socket, handler: ConnectionHandler) {
    this.#source = source;
    this.#Socket = Socket;
    this.#handler = handler;
    this.#stopWaking = onWake(() => this.#wake());
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
    if (this.#over) return;
    if (state === "open") return this.#link?.probe();
    const now = performance.now();
    // Otherwise a token function that calls reconnect would never finish.
    if (state === "connecting" && now - this.#restarted < RESTART) return;
    this.#restarted = now;
    void this.#dial();
  }

  /** Ends the connection for good. */
  close(): void {
    const { state } = this.#status;
    this.#over = true;
    this.#attempt++;
    clearTimeout(this.#timer);
    this.#stopWaking();
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
    this.#hurry();
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
  #hurry(): void {
    this.#after(PATIENCE, () => {
      this.#attempt++; // later answers are ignored
      this.#failed(new Error("the token or URL function did not return in time"));
    });
  }

  #after(ms: number, then: () => void): void {
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
    this.#known = true;
    this.#spread = Math.min(welcome.reconnectMs, LONGEST_WAIT);
    this.#status = { state: "open", willRetry: true }; // for what the handler calls
    this.#handler.welcome(welcome);
    this.#handler.status(this.#status);
  }

  /** There was nothing to connect with. */
  #failed(error: unknown): void {
    const why = { reason: error instanceof Error ? error.message : String(error), error };
    if (error instanceof RealtimeError && !this.#mayPass(error)) this.#stop(why);
    else this.#wait(why, this.#backoff.next());
  }

  /** Reports whether an error may come from another server that answers while ours is replaced. */
  #mayPass({ code }: RealtimeError): boolean {
    return this.#known && (code === "bad_token" || code === "bad_url");
  }

  #ended(end: End, credentials: Credentials): void {
    const wasOpen = this.#status.state === "open";
    this.#link = undefined;
    if (wasOpen) this.#lost(end.code);
    if (end.code === EXPIRED && this.#source.renews && !this.#renewed) {
      this.#renewed = true;
      this.#wait(end, 0);
    } else if (end.code === LOST && !wasOpen) {
      void this.#explain(end, credentials);
    } else if (comesBack(end.code) || (end.code === PROTOCOL_ERROR && this.#known && !wasOpen)) {
      this.#wait(end, this.#backoff.next(wasOpen && endsAll(end.code) ? this.#spread : 0));
    } else {
      this.#stop(end);
    }
  }

  #lost(code: number): void {
    if (performance.now() - this.#openSince >= STABLE) {
      this.#backoff.reset();
      this.#renewed = false;
    }
    this.#handler.lost(mayResume(code));
  }

  async #explain({ code }: End, { url, token }: Credentials): Promise<void> {
    const attempt = this.#attempt;
    this.#hurry();
    const refusal = await explain(this.#source.again(url), token, this.#known);
    if (attempt !== this.#attempt) return;
    const { final, retryAfter, ...reason } = refusal;
    if (final) this.#stop({ code, ...reason });
    else this.#wait({ code, ...reason }, retryAfter + this.#backoff.next());
  }

  #wait(why: Why, ms: number): void {
    const retryIn = Math.round(ms);
    this.#after(retryIn, () => void this.#dial());
    this.#set({ state: "waiting", willRetry: true, retryIn, ...why });
  }

  #stop(why: Why): void {
    clearTimeout(this.#timer);
    this.#link = undefined;
    this.#set({ state: "closed", willRetry: false, ...why });
  }

  #set(status: Status): void {
    this.#status = status;
    this.#handler.status(status);
  }
}
