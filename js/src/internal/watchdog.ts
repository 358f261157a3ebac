// All in milliseconds.
const QUIET = 25_000; // silence before a ping
const PATIENCE = 10_000; // for an answer
const HIDDEN_PATIENCE = 70_000; // timers of a hidden page may run once a minute
const PROBE_PATIENCE = 5_000;
const LATE = 5_000;
const LONGEST = 3_600_000; // for one message

/** Watchdog sends a ping when nothing arrives, and gives up if nothing arrives after that. */
export class Watchdog {
  readonly #buffered: () => number;
  readonly #ping: () => void;
  readonly #giveUp: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #heard = performance.now(); // monotonic, unlike Date.now()
  #asked = 0; // pings since something was received
  #probing = false;
  #left = 0; // unsent bytes at the last ping

  /** buffered returns the number of bytes that were written and not sent yet. */
  constructor(buffered: () => number, ping: () => void, giveUp: () => void) {
    this.#buffered = buffered;
    this.#ping = ping;
    this.#giveUp = giveUp;
    this.#sleep(QUIET);
  }

  /**
   * Notes that something was received. The timer is not reset; it checks when it fires. bytes is
   * the size of the next message, of which nothing is seen before it is complete: one millisecond
   * for each byte is enough.
   */
  heard(bytes = 0): void {
    this.#heard = performance.now() + Math.min(bytes, LONGEST);
    this.#asked = 0;
    this.#probing = false;
  }

  /**
   * Sends a ping at once, with little time for an answer, because the connection may be dead. While
   * one is pending, further calls do nothing.
   */
  probe(): void {
    if (this.#probing) return;
    this.#probing = true;
    this.#ask(PROBE_PATIENCE);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #ask(patience: number): void {
    this.#asked++;
    this.#left = this.#buffered();
    this.#sleep(patience);
    this.#ping();
  }

  #sleep(ms: number): void {
    clearTimeout(this.#timer);
    const due = performance.now() + ms;
    this.#timer = setTimeout(() => this.#look(performance.now() - due > LATE), ms);
  }

  #look(late: boolean): void {
    const left = this.#heard + QUIET - performance.now();
    if (this.#asked === 0 && left > 0) {
      this.#sleep(left);
    } else if (
      this.#asked === 0 || (late && this.#asked === 1) || this.#buffered() < this.#left
    ) {
      // Data still leaves, so the ping may not have been sent yet. If the timer was late, the page
      // was suspended, and an answer may not have been delivered yet. This counts only for the
      // first ping, because the timers of some pages are always late.
      this.#ask(globalThis.document?.hidden ? HIDDEN_PATIENCE : PATIENCE);
    } else {
      this.#giveUp();
    }
  }
}
