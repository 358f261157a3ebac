import type { Token, Url } from "../api.js";
import { RealtimeError } from "../errors.js";
import { address } from "./address.js";

/** The URL and the token of one attempt to connect. */
export interface Credentials {
  readonly url: URL;
  readonly token: string | undefined;
}

/** Source provides the URL and the token for attempts to connect. */
export class Source {
  readonly #url: Url;
  readonly #token: Token | undefined;
  readonly #pageKey: string | undefined;

  constructor(url: Url, token: Token | undefined, pageKey: string | undefined) {
    this.#url = url;
    this.#token = token;
    this.#pageKey = pageKey;
  }

  /** Whether the next attempt may get a new URL or token. */
  get renewable(): boolean {
    return typeof this.#url === "function" || typeof this.#token === "function";
  }

  /** Returns the credentials for the next attempt. */
  async next(): Promise<Credentials> {
    const [url, token] = await Promise.all([this.#askUrl(), this.token()]);
    if (token && !/^[\w.~-]+$/.test(token)) {
      throw new RealtimeError("bad_token", "a token may contain only letters, digits and -._~");
    }
    return { url, token };
  }

  /**
   * Returns the URL for one more request: the one that was used, or a new one if URLs may be valid
   * only once.
   */
  async urlForRetry(used: URL): Promise<URL> {
    return typeof this.#url === "function" ? this.#askUrl() : used;
  }

  async token(): Promise<string | undefined> {
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    return token || undefined;
  }

  async #askUrl(): Promise<URL> {
    const url = typeof this.#url === "function" ? await this.#url() : this.#url;
    try {
      return withKey(address(url), this.#pageKey);
    } catch (cause) {
      throw new RealtimeError("bad_url", `${url} is not a valid URL`, { cause });
    }
  }
}

/** Adds a key to the query, which otherwise stays as it is. */
function withKey(url: URL, key: string | undefined): URL {
  if (key) url.search += `${url.search ? "&" : "?"}presence_key=${key}`;
  return url;
}
