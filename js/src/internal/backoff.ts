const FIRST = 1_000;
const LONGEST = 30_000;

/**
 * Backoff is how long to wait before the next attempt, in milliseconds. It is random from zero on,
 * so that clients that lost their server together do not come back together.
 */
export class Backoff {
  #limit = FIRST;

  /** The next wait, spread over at least this much. */
  next(spread = 0): number {
    const wait = Math.random() * Math.max(this.#limit, spread);
    this.#limit = Math.min(2 * this.#limit, LONGEST);
    return wait;
  }

  reset(): void {
    this.#limit = FIRST;
  }
}
