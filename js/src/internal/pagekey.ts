import { randomId } from "./id.js";

const NAME = "realtime.key"; // in the session storage, which belongs to a tab and outlives a reload

const taken: boolean[] = []; // by the clients of this page

/**
 * Returns the key by which the server recognises a client after a reload of its page, undefined if
 * nothing can be stored, and a function that leaves the key to the next client. Each client of a
 * page has another key, which depends on how many there are.
 */
export function takeKey(): [key: string | undefined, release: () => void] {
  let number = 0;
  while (taken[number]) number++;
  taken[number] = true;
  const key = pageKey();
  return [key && number ? `${key}-${number}` : key, () => { taken[number] = false; }];
}

function pageKey(): string | undefined {
  try {
    const { sessionStorage } = globalThis; // not in Node; throws in some frames
    const stored = sessionStorage.getItem(NAME) ?? "";
    if (/^[\w-]{10}$/.test(stored)) return stored;
    const key = randomId().slice(0, 10);
    sessionStorage.setItem(NAME, key);
    return key;
  } catch {
    return undefined;
  }
}
