import type { Message } from "../api.js";

/** Handlers is a set of functions of the application that are called with the same arguments. */
export class Handlers<Argument extends unknown[]> {
  readonly #all = new Set<(...args: Argument) => unknown>();

  get size(): number {
    return this.#all.size;
  }

  /** Adds a handler, and returns a function that removes it. */
  add(handler: (...args: Argument) => unknown): () => void {
    const own = (...args: Argument) => handler(...args); // so that one added twice is called twice
    this.#all.add(own);
    return () => void this.#all.delete(own);
  }

  /**
   * Calls all handlers. Returns promises that settle when the handlers are done, and never reject.
   */
  call(...args: Argument): Promise<void>[] {
    const work = [];
    for (const handler of [...this.#all]) { // without those that are added meanwhile
      if (this.#all.has(handler)) work.push(attempt(handler, args));
    }
    return work;
  }
}

/** MessageHandlers groups handlers by message type. */
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

/** Reports an error as uncaught, after the current task. */
export function report(error: unknown): void {
  queueMicrotask(() => (globalThis.reportError ?? console.error)(error));
}

/** Calls a handler, and reports its error. Runs synchronously up to the first await. */
export async function attempt<A extends unknown[]>(handler: (...args: A) => unknown, args: A) {
  try {
    await handler(...args);
  } catch (error) {
    report(error);
  }
}
