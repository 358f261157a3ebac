// The key by which the server recognises a client after a reload of its page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, TestEnv } from "./helpers.js";

const NAME = "realtime.key";
const keyOf = ({ url }) => new URL(url).searchParams.get("presence_key");

/** Gives the page a session storage. */
function page(t, storage) {
  const before = Object.getOwnPropertyDescriptor(globalThis, "sessionStorage");
  Object.defineProperty(globalThis, "sessionStorage", { configurable: true, get: () => storage() });
  t.after(() => {
    delete globalThis.sessionStorage;
    if (before) Object.defineProperty(globalThis, "sessionStorage", before);
  });
}

function storageOf(stored) {
  return {
    getItem: (name) => stored.get(name) ?? null,
    setItem: (name, value) => void stored.set(name, value),
  };
}

/** Returns the sockets of clients with their own URLs. */
async function clients(env, ...urls) {
  const all = urls.map((url) => env.connect({}, url));
  await settled();
  return all;
}

test("a page has a random key, which it keeps over a reload", async (t) => {
  const stored = new Map();
  page(t, () => storageOf(stored));
  const env = new TestEnv(t);
  const [one, two] = await clients(env, "wss://a.example/ws", "wss://b.example/ws?x=a%20b");
  const key = stored.get(NAME);
  assert.match(key, /^[\w-]{10}$/);
  assert.deepEqual(env.sockets.map(({ url }) => url), [
    `wss://a.example/ws?presence_key=${key}`, `wss://b.example/ws?x=a%20b&presence_key=${key}-1`,
  ]);
  env.sockets[0].welcome();
  env.sockets[0].end(1006);
  await env.pass(1_000);
  assert.equal(keyOf(env.socket), key, "also after a reconnect");
  for (const client of [one, two]) client.close();
  await env.pass(1);
  const [again] = await clients(env, "wss://c.example/ws"); // as after a reload
  assert.equal(keyOf(env.socket), key);
  again.close();
  await env.pass(1);
});

test("a key is free again when its client has been closed", async (t) => {
  const stored = new Map([[NAME, "abcdefgh-_"]]);
  page(t, () => storageOf(stored));
  const env = new TestEnv(t);
  const [one, two] = await clients(env, "wss://a.example/ws", "wss://b.example/ws");
  one.close();
  await env.pass(1);
  const [three] = await clients(env, "wss://c.example/ws");
  assert.deepEqual(env.sockets.map(keyOf), ["abcdefgh-_", "abcdefgh-_-1", "abcdefgh-_"]);
  for (const client of [two, three]) client.close();
  await env.pass(1);
});

test("a stored key that the server would refuse is replaced", async (t) => {
  const stored = new Map([[NAME, "x".repeat(33)]]);
  page(t, () => storageOf(stored));
  const env = new TestEnv(t);
  const [client] = await clients(env, "wss://a.example/ws");
  assert.match(keyOf(env.socket), /^[\w-]{10}$/);
  client.close();
  await env.pass(1);
});

const refuse = () => { throw new Error("SecurityError"); };
for (const [name, storage] of Object.entries({
  "no storage": () => undefined,
  "a storage that is refused": refuse,
  "a storage that is full": () => ({ getItem: () => null, setItem: refuse }),
})) {
  test(`without a key: ${name}`, async (t) => {
    page(t, storage);
    const env = new TestEnv(t);
    const all = await clients(env, "wss://a.example/ws", "wss://b.example/ws");
    assert.deepEqual(env.sockets.map(({ url }) => url), ["wss://a.example/ws", "wss://b.example/ws"]);
    for (const client of all) client.close();
    await env.pass(1);
  });
}

test("a function as URL gets the key too", async (t) => {
  page(t, () => storageOf(new Map([[NAME, "abcdefghij"]])));
  const env = new TestEnv(t);
  const client = env.connect({}, () => "wss://a.example/ws?ticket=1");
  await settled();
  assert.equal(env.socket.url, "wss://a.example/ws?ticket=1&presence_key=abcdefghij");
  client.close();
  await env.pass(1);
});
