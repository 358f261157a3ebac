// All in milliseconds.
const QUIET = 25_000; // before it asks
const PATIENCE = 10_000; // for the answer
const HIDDEN_PATIENCE = 70_000; // a hidden page may run its timers once a minute
const PROBE_PATIENCE = 5_000;
const LATE = 5_000;
const LONGEST = 3_600_000; // for one message

/** Watchdog asks for a sign of life when nothing comes, and gives up if none comes then. */
export class Watchdog {
  readonly #buffered: () => number;
  readonly #ping: () => void;
  readonly #giveUp: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #heard = performance.now(); // not the time of day, which may be set
  #asked = 0; // how often, since something was heard
  #probing = false;
  #left = 0; // bytes that had not left when it asked

  /** buffered: bytes that were written and have not left yet. */
  constructor(buffered: () => number, ping: () => void, giveUp: () => void) {
    this.#buffered = buffered;
    this.#ping = ping;
    this.#giveUp = giveUp;
    this.#sleep(QUIET);
  }

  /**
   * Something came. The timer is left alone: it looks when it would have been due. What comes next
   * has so many bytes, of which nothing is seen before the last: a millisecond each is enough.
   */
  heard(bytes = 0): void {
    this.#heard = performance.now() + Math.min(bytes, LONGEST);
    this.#asked = 0;
    this.#probing = false;
  }

  /** Asks at once, with little patience: there is reason to doubt. More doubts change nothing. */
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
      // What we say still leaves, and the question is behind it. Late means that we have slept, and
      // that an answer may not have been let in yet. A page whose timers are always late has had its
      // chance then.
      this.#ask(globalThis.document?.hidden ? HIDDEN_PATIENCE : PATIENCE);
    } else {
      this.#giveUp();
    }
  }
}
