import type { Message } from "../api.js";
import { later } from "./later.js";

/**
 * Values calls handlers with the newest value of each key of a room, or of the connection. It makes
 * the next call when the promises of the one before have settled, and leaves out the values that
 * were replaced meanwhile.
 */
export class Values {
  /** The newest version that has arrived; 0: none of the values that exist has arrived. */
  version: number | undefined;
  /** Whether the server does not know yet, over this connection, what is missing after version. */
  held = false;
  readonly #call: (message: Message) => Promise<void>[];
  readonly #waiting = new Map<string, Message>(); // values for which no handler was called
  readonly #known = new Map<string, Message>(); // for each key that exists, what removes it
  #running = false;

  constructor(call: (message: Message) => Promise<void>[]) {
    this.#call = call;
  }

  /** Handles a value, or the removal of one. */
  receive(message: Message, version: number | undefined): void {
    const key = message.latest!;
    if (!this.held && version! > (this.version ?? 0)) this.version = version;
    if (message.content === null) this.#known.delete(key);
    else this.#known.set(key, { ...message, content: null });
    this.#waiting.set(key, message);
    if (!this.#running) this.#schedule();
  }

  /** Removes the values with other keys. The values that follow have versions of their own. */
  keep(keys: unknown[]): void {
    for (const [key, removal] of this.#known) {
      if (!keys.includes(key)) this.receive(removal, undefined);
    }
    this.version = 0;
  }

  /** Notes that there is no connection. */
  hold(): void {
    this.held = this.version !== undefined;
  }

  /** Forgets all values. No handlers are called. */
  forget(): void {
    this.version = undefined;
    this.held = false;
    this.#waiting.clear();
    this.#known.clear();
  }

  #schedule(): void {
    this.#running = this.#waiting.size > 0;
    if (this.#running) later(() => void this.#run());
  }

  async #run(): Promise<void> {
    for (const key of [...this.#waiting.keys()]) {
      const message = this.#waiting.get(key); // the newest one by now
      this.#waiting.delete(key);
      if (message) await Promise.all(this.#call(message));
    }
    this.#schedule();
  }
}
