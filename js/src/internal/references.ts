/**
 * References counts the users of an object. The object is released one macrotask after the last
 * user has gone, because components of a page are unmounted and mounted again at once and should
 * find it unchanged.
 */
export class References {
  readonly #release: () => void;
  #count = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(release: () => void) {
    this.#release = release;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  add(): void {
    clearTimeout(this.#timer);
    this.#count++;
  }

  remove(): void {
    if (this.#count === 0 || --this.#count > 0) return;
    this.#timer = setTimeout(this.#release, 0);
  }
}
