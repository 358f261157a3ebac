// All in milliseconds.
const PING_INTERVAL = 25_000; // silence before a ping
const PONG_TIMEOUT = 10_000; // for an answer
const HIDDEN_PONG_TIMEOUT = 70_000; // timers of a hidden page may run once a minute
const PROBE_TIMEOUT = 5_000;
const LATE_AFTER = 5_000;
const MAX_TRANSFER = 3_600_000; // for one message

/** Watchdog sends a ping when nothing arrives, and gives up if nothing arrives after that. */
export class Watchdog {
  readonly #buffered: () => number;
  readonly #ping: () => void;
  readonly #giveUp: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastAlive = performance.now(); // monotonic, unlike Date.now()
  #pings = 0; // pings since something was received
  #probing = false;
  #unsent = 0; // unsent bytes at the last ping

  /** buffered returns the number of bytes that were written and not sent yet. */
  constructor(buffered: () => number, ping: () => void, giveUp: () => void) {
    this.#buffered = buffered;
    this.#ping = ping;
    this.#giveUp = giveUp;
    this.#setTimer(PING_INTERVAL);
  }

  /**
   * Notes that something was received. The timer is not reset; it checks when it fires. bytes is
   * the size of the next message, of which nothing is seen before it is complete: one millisecond
   * for each byte is enough.
   */
  noteAlive(bytes = 0): void {
    this.#lastAlive = performance.now() + Math.min(bytes, MAX_TRANSFER);
    this.#pings = 0;
    this.#probing = false;
  }

  /**
   * Sends a ping at once, with little time for an answer, because the connection may be dead. While
   * one is pending, further calls do nothing.
   */
  probe(): void {
    if (this.#probing) return;
    this.#probing = true;
    this.#sendPing(PROBE_TIMEOUT);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #sendPing(timeout: number): void {
    this.#pings++;
    this.#unsent = this.#buffered();
    this.#setTimer(timeout);
    this.#ping();
  }

  #setTimer(ms: number): void {
    clearTimeout(this.#timer);
    const due = performance.now() + ms;
    this.#timer = setTimeout(() => this.#check(performance.now() - due > LATE_AFTER), ms);
  }

  #check(late: boolean): void {
    const remaining = this.#lastAlive + PING_INTERVAL - performance.now();
    if (this.#pings === 0 && remaining > 0) {
      this.#setTimer(remaining);
    } else if (
      this.#pings === 0 || (late && this.#pings === 1) || this.#buffered() < this.#unsent
    ) {
      // Data still leaves, so the ping may not have been sent yet. If the timer was late, the page
      // was suspended, and an answer may not have been delivered yet. This counts only for the
      // first ping, because the timers of some pages are always late.
      this.#sendPing(globalThis.document?.hidden ? HIDDEN_PONG_TIMEOUT : PONG_TIMEOUT);
    } else {
      this.#giveUp();
    }
  }
}
