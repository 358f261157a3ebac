/**
 * References counts who uses something. It is let go one macrotask after the last one has gone:
 * components of a page are taken off and put back at once, and should find it as it was.
 */
export class References {
  readonly #letGo: () => void;
  #count = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(letGo: () => void) {
    this.#letGo = letGo;
  }

  get none(): boolean {
    return this.#count === 0;
  }

  add(): void {
    clearTimeout(this.#timer);
    this.#count++;
  }

  remove(): void {
    if (this.#count === 0 || --this.#count > 0) return;
    this.#timer = setTimeout(this.#letGo, 0);
  }
}
