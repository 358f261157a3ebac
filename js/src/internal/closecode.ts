// The close codes that the client treats specially, see docs/PROTOCOL.md.

export const NORMAL = 1000;
export const PROTOCOL_ERROR = 1002;
export const LOST = 1006;
export const EXPIRED = 4401;

const AWAY = 1001;
const RESTART = 1012;

/** Reports whether the same attempt may succeed later. */
export function mayReconnect(code: number): boolean {
  return code === AWAY || code === LOST ||
    (code >= 1011 && code <= 1014) || (code >= 3000 && code <= 4399);
}

/**
 * Reports whether the server keeps the session for a while. It does not if it has announced that it
 * goes away.
 */
export function mayResume(code: number): boolean {
  return code !== AWAY && mayReconnect(code);
}

/** Reports whether all clients of the server are likely to have lost it at once. */
export function concernsAllClients(code: number): boolean {
  return code === AWAY || code === LOST || code === RESTART;
}
