const MAX_SEEN = 10_000;

/** Seen remembers the last 10,000 identifiable messages and the work for them. */
export class Seen {
  readonly #work = new Map<string, Promise<void>[]>();

  /** Returns the work for a message that was shown, undefined if it is new. */
  get(key: string): Promise<void>[] | undefined {
    return this.#work.get(key);
  }

  add(key: string, work: Promise<void>[]): void {
    this.#work.set(key, work);
    if (this.#work.size > MAX_SEEN) this.#forgetOldest();
  }

  #forgetOldest(): void {
    for (const key of this.#work.keys()) {
      this.#work.delete(key);
      return;
    }
  }
}
