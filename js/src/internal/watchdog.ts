// All in milliseconds.
const QUIET = 25_000; // before it asks
const PATIENCE = 10_000; // for the answer
const HIDDEN_PATIENCE = 70_000; // a hidden page may run its timers once a minute
const PROBE_PATIENCE = 5_000;
const LATE = 5_000;

/** Watchdog asks for a sign of life when nothing comes, and gives up if none comes then. */
export class Watchdog {
  readonly #ping: () => void;
  readonly #giveUp: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #heard = Date.now();
  #asked = false; // and nothing was heard since

  constructor(ping: () => void, giveUp: () => void) {
    this.#ping = ping;
    this.#giveUp = giveUp;
    this.#sleep(QUIET);
  }

  /** Something came. The timer is left alone: it looks when it would have been due. */
  heard(): void {
    this.#heard = Date.now();
    this.#asked = false;
  }

  /** Asks at once, with little patience: there is reason to doubt. */
  probe(): void {
    this.#ask(PROBE_PATIENCE);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #ask(patience: number): void {
    this.#asked = true;
    this.#sleep(patience);
    this.#ping();
  }

  #sleep(ms: number): void {
    clearTimeout(this.#timer);
    const due = Date.now() + ms;
    this.#timer = setTimeout(() => this.#look(Date.now() - due > LATE), ms);
  }

  #look(late: boolean): void {
    const left = this.#heard + QUIET - Date.now();
    if (!this.#asked && left > 0) {
      this.#sleep(Math.min(left, QUIET)); // more only if the clock was set back
    } else if (!this.#asked || late) {
      // Late means that we have slept, and that an answer may not have been let in yet.
      this.#ask(globalThis.document?.hidden ? HIDDEN_PATIENCE : PATIENCE);
    } else {
      this.#giveUp();
    }
  }
}
