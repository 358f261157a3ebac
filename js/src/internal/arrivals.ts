// See "Acknowledging frames" in docs/PROTOCOL.md. Times are in milliseconds.
const MIN_INTERVAL = 100;
const MAX_DELAY = 1_000;
const MANY_FRAMES = 4;
const MANY_BYTES = 8_192;

/** Arrivals tells the server how many state frames have arrived over a connection. */
export class Arrivals {
  readonly #send: (frames: number) => void;
  #frames = 0;
  #told = 0; // frames of which the server knows
  #bytes = 0; // of the other frames
  #due = 0; // when to tell the server of them
  #toldAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(send: (frames: number) => void) {
    this.#send = send;
  }

  /** Notes the arrival of a frame. */
  note(bytes: number): void {
    const now = performance.now();
    if (this.#frames++ === this.#told) this.#due = now + MAX_DELAY;
    this.#bytes += bytes;
    if (this.#frames - this.#told >= MANY_FRAMES || this.#bytes >= MANY_BYTES) {
      this.#due = this.#toldAt + MIN_INTERVAL;
    }
    clearTimeout(this.#timer);
    if (this.#due <= now) this.#tell(); // the timers of a hidden page are late
    else this.#timer = setTimeout(() => this.#tell(), this.#due - now);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #tell(): void {
    this.#told = this.#frames;
    this.#bytes = 0;
    this.#toldAt = performance.now();
    this.#send(this.#frames);
  }
}
