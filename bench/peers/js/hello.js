// The common part of the servers, like the Go package serve: the first line of output, and the exit
// at the end of standard input.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

// versionOf returns the version of an installed package.
export function versionOf(name) {
  return require(`${name}/package.json`).version;
}

export function hello(port, dialect, versions) {
  console.log(JSON.stringify({ addr: `127.0.0.1:${port}`, dialect, versions }));
  process.stdin.on("end", () => process.exit(0));
  process.stdin.resume();
}

// deflate says whether the server must compress.
export const deflate = Boolean(process.env.BENCH_DEFLATE);

// who returns the identity in the query of an upgrade request.
export function who(url) {
  const query = new URL(url, "http://localhost").searchParams;
  const direct = query.get("direct") === "1";
  return { room: query.get("room"), name: direct ? query.get("user") : "" };
}

// addressee returns the user to whom a text is addressed, or undefined.
export function addressee(text) {
  if (!text.startsWith("@")) return undefined;
  const end = text.indexOf(" ");
  return text.slice(1, end < 0 ? undefined : end);
}
