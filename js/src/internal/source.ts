import type { Token, Url } from "../api.js";
import { RealtimeError } from "../errors.js";
import { address } from "./address.js";

/** What one attempt to connect is made with. */
export interface Credentials {
  readonly url: URL;
  readonly token: string | undefined;
}

/** Source knows where to connect to, and as whom. */
export class Source {
  readonly #url: Url;
  readonly #token: Token | undefined;

  constructor(url: Url, token?: Token) {
    this.#url = url;
    this.#token = token;
  }

  /** Whether it may know something newer than the last time. */
  get renews(): boolean {
    return typeof this.#url === "function" || typeof this.#token === "function";
  }

  /** What to make the next attempt with. */
  async next(): Promise<Credentials> {
    const [url, token] = await Promise.all([this.#askUrl(), this.token()]);
    if (token && !/^[\w.~-]+$/.test(token)) {
      throw new RealtimeError("bad_token", "a token may have letters, digits and -._~ only");
    }
    return { url, token };
  }

  /** The URL for one request more: the one that was used, unless it was good for one only. */
  async again(used: URL): Promise<URL> {
    return typeof this.#url === "function" ? this.#askUrl() : used;
  }

  async token(): Promise<string | undefined> {
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    return token || undefined;
  }

  async #askUrl(): Promise<URL> {
    const url = typeof this.#url === "function" ? await this.#url() : this.#url;
    try {
      return address(url);
    } catch (cause) {
      throw new RealtimeError("bad_url", `${url} is no URL`, { cause });
    }
  }
}
