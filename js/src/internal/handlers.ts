import type { Message } from "../api.js";

/** Handlers are functions of the application that are called with the same thing. */
export class Handlers<Argument extends unknown[]> {
  readonly #all = new Set<(...args: Argument) => unknown>();

  get size(): number {
    return this.#all.size;
  }

  /** Adds a handler, and returns what takes it off again. */
  add(handler: (...args: Argument) => unknown): () => void {
    const own = (...args: Argument) => handler(...args); // one that is added twice is called twice
    this.#all.add(own);
    return () => void this.#all.delete(own);
  }

  /** Calls all, and returns what settles as they do. None of it fails. */
  call(...args: Argument): Promise<void>[] {
    const work = [];
    for (const handler of [...this.#all]) { // not those that are added meanwhile
      if (this.#all.has(handler)) work.push(attempt(handler, args));
    }
    return work;
  }
}

/** MessageHandlers are handlers by type of message. */
export class MessageHandlers {
  readonly #types = new Map<string, Handlers<[content: any, message: Message]>>();

  add(type: string, handler: (content: any, message: Message) => unknown): () => void {
    let handlers = this.#types.get(type);
    if (!handlers) this.#types.set(type, handlers = new Handlers());
    return handlers.add(handler);
  }

  call(message: Message): Promise<void>[] {
    return this.#types.get(message.type)?.call(message.content, message) ?? [];
  }
}

/** Reports an error as if nobody had caught it, behind what is going on. */
export function report(error: unknown): void {
  queueMicrotask(() => (globalThis.reportError ?? console.error)(error));
}

// Up to its first await it runs at once.
async function attempt<A extends unknown[]>(handler: (...args: A) => unknown, args: A) {
  try {
    await handler(...args);
  } catch (error) {
    report(error);
  }
}
