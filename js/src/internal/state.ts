import { tooLarge } from "./requests.js";
import { sizeOf } from "./wire.js";

const MAX_BYTES = 1_024;

/**
 * Returns the state of a client after a change: the members of the patch replace those of the
 * state, or the patch replaces the state if one of the two is not an object.
 *
 * @throws RealtimeError `too_large`
 */
export function patched(state: unknown, patch: unknown): unknown {
  const next = isObject(patch) && isObject(state) ? { ...state, ...patch } : patch;
  const json = JSON.stringify(next) ?? "null";
  const error = tooLarge(sizeOf(json), MAX_BYTES);
  if (error) throw error;
  return JSON.parse(json); // the application may change what it has passed
}

function isObject(value: unknown): value is object {
  return Object.prototype.toString.call(value) === "[object Object]";
}
