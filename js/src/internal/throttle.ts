import { attempt } from "./handlers.js";
import type { Requests } from "./requests.js";

const INTERVAL = 33; // milliseconds
const MAX_KEYS = 100; // that wait until it is possible to send
const MAX_BUFFERED = 16_384; // bytes behind which nothing is sent

/**
 * Throttle sends what replaces what was sent before with the same key: at once, or the newest at
 * the end of an interval.
 */
export class Throttle {
  readonly #requests: Requests;
  readonly #isReady: () => boolean;
  readonly #waiting = new Map<string, () => void>(); // functions that send
  readonly #sentAt = new Map<string, number>(); // of keys in their interval, the oldest first
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** isReady reports whether it is possible to send. Once it is, the caller must call run. */
  constructor(requests: Requests, isReady: () => boolean) {
    this.#requests = requests;
    this.#isReady = isReady;
  }

  set(key: string, send: () => void): void {
    this.#waiting.set(key, send);
    this.run();
  }

  delete(key: string): void {
    this.#waiting.delete(key);
  }

  /** Sends what it may send now. */
  run(): void {
    clearTimeout(this.#timer);
    const isReady = this.#isReady();
    const now = performance.now();
    for (const [key, at] of this.#sentAt) {
      if (at + INTERVAL <= now) this.#sentAt.delete(key);
    }
    for (const [key, send] of this.#waiting) {
      if (!isReady || this.#requests.buffered > MAX_BUFFERED) {
        // The oldest value, but not the state, which has no key.
        if (key && this.#waiting.size > MAX_KEYS) this.#waiting.delete(key);
      } else if (!this.#sentAt.has(key)) {
        this.#waiting.delete(key);
        this.#sentAt.set(key, now);
        void attempt(send, []);
      }
    }
    if (!isReady || !this.#waiting.size) return;
    const [first = now] = this.#sentAt.values();
    this.#timer = setTimeout(() => this.run(), first + INTERVAL - now);
  }
}
