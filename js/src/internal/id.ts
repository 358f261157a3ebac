import { sizeOf } from "./wire.js";

const MAX_BYTES = 64;

/** Returns a unique ID: 96 random bits in 16 characters. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

/** Whether the server accepts an ID: no control characters, and no space around it. */
export function isValidId(id: string): boolean {
  // Without a look behind, for which Safari before 16.4 would refuse the whole script.
  const allowed = /^(?!\p{White_Space})[^\p{Cc}\p{Cs}]*[^\p{Cc}\p{Cs}\p{White_Space}]$/u;
  return sizeOf(id) <= MAX_BYTES && allowed.test(id);
}
