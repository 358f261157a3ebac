import { RealtimeError } from "../errors.js";
import { report } from "./handlers.js";
import type { OpenConnection } from "./requests.js";
import { encode, sizeOf, toMilliseconds, type Data, type Frame } from "./wire.js";

const MAX_CALLS = 100;

/** A call from the server. */
export type Call = Extract<Frame, { kind: "call" }>;

type Method = (content: any) => unknown;

/** Methods holds the functions with which the application answers calls from the server. */
export class Methods {
  readonly #methods = new Map<string, Method>();

  /** Sets a method, and returns a function that removes it. */
  set(name: string, method: Method): () => void {
    this.#methods.set(name, method);
    return () => {
      if (this.#methods.get(name) === method) this.#methods.delete(name);
    };
  }

  /** Runs the method of a call, and returns the frame with the answer. */
  async answer({ id, method, content }: Call, connection: OpenConnection): Promise<Data> {
    try {
      if (++connection.calls > MAX_CALLS) throw new RealtimeError("busy", "too many calls");
      const result = await this.#find(method)(content);
      return fitting(encode({ type: "reply", id, content: result }), connection);
    } catch (error) {
      return encodeError(id, error, connection);
    } finally {
      connection.calls--;
    }
  }

  #find(name: string): Method {
    const method = this.#methods.get(name);
    if (!method) throw new RealtimeError("unknown_method", `unknown method "${name}"`);
    return method;
  }
}

/** Returns an answer, or throws if it is larger than the server accepts. */
function fitting(answer: Data, { maxBytes }: OpenConnection): Data {
  if (sizeOf(answer) <= maxBytes) return answer;
  throw new RealtimeError("too_large", "the answer is too large");
}

/** Encodes an error. If it cannot be sent, the server receives the reason for that instead. */
function encodeError(id: unknown, error: unknown, connection: OpenConnection): Data {
  try {
    return fitting(JSON.stringify(toAnswer(id, error)), connection);
  } catch (reason) {
    return JSON.stringify(toAnswer(id, reason));
  }
}

function toAnswer(id: unknown, error: unknown): object {
  const known = error instanceof RealtimeError ? error : internal(error);
  const { code, message, retryAfter, data } = known;
  const content = { code, message, retry_ms: toMilliseconds(retryAfter), data };
  return { type: "error", id, content };
}

/**
 * Reports an error that is not meant for the server, and returns the one that the server receives.
 */
function internal(error: unknown): RealtimeError {
  report(error);
  return new RealtimeError("internal", "internal error");
}
