const FIRST_LIMIT = 1_000;
const LAST_LIMIT = 30_000;

/**
 * Backoff computes the wait before the next attempt, in milliseconds. The wait is random, starting
 * at zero, so that clients that lost their server together do not reconnect together.
 */
export class Backoff {
  #limit = FIRST_LIMIT;

  /** Returns the next wait, from a range of at least `spread`. */
  next(spread = 0): number {
    const wait = Math.random() * Math.max(this.#limit, spread);
    this.#limit = Math.min(2 * this.#limit, LAST_LIMIT);
    return wait;
  }

  reset(): void {
    this.#limit = FIRST_LIMIT;
  }
}
