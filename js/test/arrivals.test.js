// The client says how many state frames have arrived over a connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesFrame, message, TestEnv } from "./helpers.js";

const seen = ({ requests }) => requests.filter(({ type }) => type === "seen").map(({ frames }) => frames);
const value = (content = 1) => message("shape", content, { room: "lobby", latest: "a" });

async function open(t) {
  const env = new TestEnv(t);
  const client = await env.open();
  const receive = (n, content) => {
    for (let i = 0; i < n; i++) env.socket.receive(value(content));
  };
  return { env, client, receive };
}

test("a frame is acknowledged within a second", async (t) => {
  const { env, receive } = await open(t);
  receive(1);
  await env.pass(500);
  receive(1);
  await env.pass(499);
  assert.deepEqual(seen(env.socket), []);
  await env.pass(1);
  assert.deepEqual(env.socket.sent, ['{"type":"seen","frames":2}']);
  await env.pass(5_000);
  assert.deepEqual(seen(env.socket), [2]);
});

test("four frames are acknowledged at once, but not more often than each 100 ms", async (t) => {
  const { env, receive } = await open(t);
  receive(3);
  assert.deepEqual(seen(env.socket), []);
  receive(1);
  assert.deepEqual(seen(env.socket), [4]);
  receive(9);
  await env.pass(99);
  assert.deepEqual(seen(env.socket), [4]);
  await env.pass(1);
  assert.deepEqual(seen(env.socket), [4, 13]);
  env.sleep(150);
  receive(4);
  assert.deepEqual(seen(env.socket), [4, 13, 17], "without a timer");
  receive(2);
  await env.pass(999);
  assert.deepEqual(seen(env.socket), [4, 13, 17]);
  await env.pass(1);
  assert.deepEqual(seen(env.socket), [4, 13, 17, 19]);
});

test("8 KiB of frames are acknowledged at once", async (t) => {
  const { env, receive } = await open(t);
  receive(1, "x".repeat(4_000));
  assert.deepEqual(seen(env.socket), []);
  receive(1, "ä".repeat(2_100));
  assert.deepEqual(seen(env.socket), [2]);
  await env.pass(100);
  env.socket.receive(bytesFrame({ message_type: "s", latest: "a" }, new Uint8Array(8_192)));
  assert.deepEqual(seen(env.socket), [2, 3]);
});

test("only state frames count, whatever they are about", async (t) => {
  const { env } = await open(t);
  env.socket.receive(message("chat", 1, { room: "lobby" }));
  env.socket.receive({ message_type: "position", room: "lobby", offset: 9, epoch: "r1" });
  const frames = [
    value(), message("shape", 1, { latest: "a" }),
    { message_type: "presence", room: "never joined", ver: 1, show: "count" },
    { message_type: "latest", room: "never joined", keys: [] },
  ];
  for (const frame of frames) {
    assert.deepEqual(seen(env.socket), []);
    env.socket.receive(frame);
  }
  assert.deepEqual(seen(env.socket), [4]);
  env.socket.receive({ message_type: "latest", room: "never joined", ver: 7 });
  await env.pass(1_000);
  assert.deepEqual(seen(env.socket), [4, 5]);
});

test("handlers that are not done do not delay it", async (t) => {
  const { env, client, receive } = await open(t);
  client.join("lobby").on("shape", () => new Promise(() => {}));
  receive(4);
  await env.pass(200);
  receive(4);
  assert.deepEqual(seen(env.socket), [4, 8]);
});

test("each connection has its own count, and none after its end", async (t) => {
  const { env, receive } = await open(t);
  receive(2);
  const [first] = env.sockets;
  await env.reopen();
  receive(4);
  await env.pass(2_000);
  assert.deepEqual([seen(first), seen(env.socket)], [[], [4]]);
});
