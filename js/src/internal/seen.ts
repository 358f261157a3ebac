const MOST = 1_000;

/** Seen remembers the last 1,000 messages that had an id. */
export class Seen {
  readonly #keys = new Set<string>();

  /** Notes a message, and reports whether it is new. */
  add(sender: string | null, id: string): boolean {
    const key = JSON.stringify([sender, id]);
    if (this.#keys.has(key)) return false;
    this.#keys.add(key);
    if (this.#keys.size > MOST) this.#forgetOldest();
    return true;
  }

  #forgetOldest(): void {
    for (const key of this.#keys) {
      this.#keys.delete(key);
      return;
    }
  }
}
