import type { Message } from "../api.js";
import { later } from "./later.js";
import { asNumber, type Raw } from "./wire.js";

/**
 * Values calls handlers with the newest value of each key of a room, or of the connection. It makes
 * the next call when the promises of the one before have settled, and leaves out the values that
 * were replaced meanwhile.
 */
export class Values {
  /** Whether the server does not know yet, over this connection, what is missing after version. */
  held = false;
  readonly #call: (message: Message) => Promise<void>[];
  readonly #waiting = new Map<string, Message>(); // values for which no handler was called
  readonly #known = new Map<string, Message>(); // for each key that exists, what removes it
  #version: number | undefined; // up to which everything has arrived; undefined: not known
  #had = false; // values have arrived
  #running = false;

  constructor(call: (message: Message) => Promise<void>[]) {
    this.#call = call;
  }

  /** What the next join says about values; undefined: nothing. */
  get version(): number | undefined {
    return this.#version ?? (this.#had ? 0 : undefined);
  }

  /** The removal of each value that exists. */
  get removals(): Message[] {
    return [...this.#known.values()];
  }

  /** Handles a value, or the removal of one. */
  receive(message: Message): void {
    const key = message.latest!;
    this.#had = true;
    if (message.content === null) this.#known.delete(key);
    else this.#known.set(key, { ...message, content: null });
    this.#waiting.set(key, message);
    if (!this.#running) this.#schedule();
  }

  /** Handles a frame that says which keys exist, or up to which version everything has arrived. */
  update({ keys, ver }: Raw): void {
    if (Array.isArray(keys)) {
      this.remove(this.removals.filter(({ latest }) => !keys.includes(latest)));
      this.#version = undefined; // the values follow
    } else if (!this.held) {
      this.#version = asNumber(ver) ?? this.#version;
    }
  }

  /** Removes values, unless newer ones have arrived since removals returned this. */
  remove(removals: Message[]): void {
    for (const removal of removals) {
      if (this.#known.get(removal.latest!) === removal) this.receive(removal);
    }
  }

  /** Notes that there is no connection. */
  hold(): void {
    this.held = this.version !== undefined;
  }

  /** Forgets all values. No handlers are called. */
  forget(): void {
    this.#version = undefined;
    this.#had = this.held = false;
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
