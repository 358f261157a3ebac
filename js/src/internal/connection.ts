import type { Status } from "../api.js";
import { RealtimeError } from "../errors.js";
import { Backoff } from "./backoff.js";
import { comesBack, endsAll, EXPIRED, LOST, mayResume, NORMAL } from "./closecode.js";
import { explain } from "./explain.js";
import { Link, type End, type Socket, type Welcome } from "./link.js";
import type { Credentials, Source } from "./source.js";
import { onWake } from "./wake.js";
import type { Data, Frame } from "./wire.js";

const STABLE = 10_000; // milliseconds, after which a connection counts as a success
const LONGEST_TIMER = 2 ** 31 - 1;

/** Who is told what happens to a connection. */
export interface ConnectionHandler {
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  /** resumable: whether the next connection may go on as this one. */
  lost(resumable: boolean): void;
  status(status: Status): void;
}

/** What is said about an end. */
type Why = Pick<Status, "code" | "reason" | "httpStatus" | "error">;

/** Connection opens one link after another, as long as that makes sense. */
export class Connection {
  readonly #source: Source;
  readonly #Socket: Socket;
  readonly #handler: ConnectionHandler;
  readonly #stopWaking: () => void;
  readonly #backoff = new Backoff();
  #status: Status = { state: "connecting", willRetry: true };
  #attempt = 0; // the number of the last one: answers to an older one come too late
  #link: Link | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #openSince = 0;
  #spread = 0; // milliseconds over which all clients come back
  #patient = false; // the server has said when to come back
  #renewed = false; // the credentials, and they have not proved to be good yet
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

  write(data: Data): void {
    this.#link?.write(data);
  }

  /** Tries now, if it waits or stays away. */
  reconnect(): void {
    const { state } = this.#status;
    if (!this.#over && (state === "waiting" || state === "closed")) void this.#dial();
  }

  /** Ends it for good. */
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
    if (this.#status.state !== "waiting") this.#link?.probe();
    else if (!this.#patient) void this.#dial();
  }

  async #dial(): Promise<void> {
    const attempt = ++this.#attempt;
    clearTimeout(this.#timer);
    this.#set({ state: "connecting", willRetry: true });
    try {
      const credentials = await this.#source.next();
      if (attempt === this.#attempt) this.#open(credentials);
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
    }
  }

  #open(credentials: Credentials): void {
    this.#link = new Link(this.#Socket, credentials, {
      welcome: (welcome) => this.#opened(welcome),
      frame: (frame) => this.#handler.frame(frame),
      end: (end) => this.#ended(end, credentials),
    });
  }

  #opened(welcome: Welcome): void {
    this.#openSince = Date.now();
    this.#spread = welcome.reconnectMs;
    this.#handler.welcome(welcome);
    this.#set({ state: "open", willRetry: true });
  }

  /** There was nothing to connect with. */
  #failed(error: unknown): void {
    const why = { reason: error instanceof Error ? error.message : String(error), error };
    if (error instanceof RealtimeError) this.#stop(why);
    else this.#wait(why, this.#backoff.next());
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
    } else if (comesBack(end.code)) {
      this.#wait(end, this.#backoff.next(wasOpen && endsAll(end.code) ? this.#spread : 0));
    } else {
      this.#stop(end);
    }
  }

  #lost(code: number): void {
    if (Date.now() - this.#openSince >= STABLE) {
      this.#backoff.reset();
      this.#renewed = false;
    }
    this.#handler.lost(mayResume(code));
  }

  async #explain({ code }: End, { url, token }: Credentials): Promise<void> {
    const attempt = this.#attempt;
    const refusal = await explain(this.#source.again(url), token);
    if (attempt !== this.#attempt) return;
    const { final, retryAfter, ...reason } = refusal;
    if (final) this.#stop({ code, ...reason });
    else this.#wait({ code, ...reason }, retryAfter + this.#backoff.next(), retryAfter > 0);
  }

  #wait(why: Why, ms: number, patient = false): void {
    const retryIn = Math.min(Math.round(ms), LONGEST_TIMER);
    this.#patient = patient;
    this.#timer = setTimeout(() => void this.#dial(), retryIn);
    this.#set({ state: "waiting", willRetry: true, retryIn, ...why });
  }

  #stop(why: Why): void {
    this.#link = undefined;
    this.#set({ state: "closed", willRetry: false, ...why });
  }

  #set(status: Status): void {
    this.#status = status;
    this.#handler.status(status);
  }
}
