// Messages to the user that the server keeps until the application has processed them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, settled, TestEnv } from "./helpers.js";

const cursor = (offset, epoch = "i1") => ({ inbox: { epoch, offset, top: offset } });

const kept = (offset, prev, more = {}) => message("chat", offset, { offset, prev, epoch: "i1", ...more });

/** Returns a client with an inbox, and the log of its events. */
async function open(t, offset) {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, cursor(offset));
  const log = [];
  client.onGap(({ room, reason, from, to }) => log.push(`${room} ${reason} ${from?.offset}-${to?.offset}`));
  return { env, client, log };
}

async function receive({ socket }, ...frames) {
  for (const frame of frames) socket.receive(frame);
  await settled();
}

const acks = ({ socket }) => socket.requests.filter(({ type }) => type === "ack").map(({ offset }) => offset);

test("processed messages are acknowledged with one request at a time", async (t) => {
  const { env, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await receive(env, kept(5, 3));
  assert.deepEqual(env.socket.last("ack"), { type: "ack", id: 1, offset: 5, epoch: "i1" });
  await receive(env, kept(6, 5), kept(8, 6));
  assert.deepEqual(acks(env), [5]);
  env.socket.reply("ack");
  assert.deepEqual(acks(env), [5, 8]);
  env.socket.reply("ack");
  await receive(env, message("chat", "not kept"));
  assert.deepEqual(acks(env), [5, 8]);
  assert.deepEqual(log, [5, 6, 8, "not kept"]);
});

test("a message is acknowledged when its handler has finished or failed", async (t) => {
  const { env, client } = await open(t, 3);
  t.mock.method(console, "error", () => {});
  const finish = {};
  client.on("chat", (content) => new Promise((resolve, reject) => { finish[content] = { resolve, reject }; }));
  client.on("chat", () => { throw new Error("oops"); });
  await receive(env, kept(5, 3), kept(6, 5), kept(7, 6));
  finish[6].resolve();
  await settled();
  assert.deepEqual(acks(env), [], "not before an earlier message");
  finish[5].reject(new Error("oops"));
  await settled();
  env.socket.reply("ack");
  assert.deepEqual(acks(env), [5, 6]);
  env.socket.reply("ack");
  finish[7].resolve();
  await settled();
  assert.deepEqual(acks(env), [5, 6, 7]);
});

test("a pending acknowledgement does not block those of the next connection", async (t) => {
  const { env, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await receive(env, kept(5, 3), kept(6, 5));
  await env.reopen(cursor(3));
  assert.deepEqual(acks(env), [6], "the server has not confirmed it");
  await receive(env, kept(5, 3), kept(6, 5), kept(7, 6));
  assert.deepEqual(log, [5, 6, 7]);
  env.socket.reply("ack");
  assert.deepEqual(acks(env), [6, 7]);
  await env.reopen(cursor(7));
  assert.deepEqual(acks(env), [], "the server has confirmed it");
  assert.deepEqual(log, [5, 6, 7], "nothing is missing");
});

test("a message that arrives again while its handler runs is not acknowledged", async (t) => {
  const { env, client } = await open(t, 3);
  let finish;
  client.on("chat", () => new Promise((resolve) => { finish = resolve; }));
  await receive(env, kept(5, 3));
  await env.reopen(cursor(3));
  await receive(env, kept(5, 3));
  assert.deepEqual(acks(env), []);
  finish();
  await settled();
  assert.deepEqual(acks(env), [5]);
});

test("a message whose ID was already received is acknowledged", async (t) => {
  const { env } = await open(t, 3);
  await receive(env, message("chat", 1, { id: "m" }), kept(5, 3, { id: "m" }));
  assert.deepEqual(acks(env), [5]);
});

test("a new epoch of the inbox is a gap", async (t) => {
  const { env, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await receive(env, kept(5, 3));
  await env.reopen(cursor(0, "i2"));
  assert.deepEqual(acks(env), [], "nothing of the old epoch is acknowledged");
  await receive(env, kept(1, 0, { epoch: "i2" }), kept(2, 0, { epoch: "i3" }));
  assert.deepEqual(log, [5, "undefined epoch 5-0", 1, "undefined epoch 1-0", 2]);
  assert.equal(env.socket.last("ack").epoch, "i3");
});

test("another client of the user may have acknowledged more", async (t) => {
  const { env, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await env.reopen(cursor(9));
  await receive(env, kept(10, 9));
  assert.deepEqual(log, [10]);
});

test("skipped messages are acknowledged, and lost ones are reported", async (t) => {
  const { env, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  const frame = (type, more) => ({ message_type: type, epoch: "i1", ...more });
  await receive(env, frame("position", { offset: 7 }));
  assert.deepEqual(acks(env), [7]);
  env.socket.reply("ack");
  await receive(env, frame("position", { offset: 9, recovered: false, reason: "expired" }), kept(10, 9));
  await receive(env, frame("skipped", { from: 10, to: 12, reason: "slow" }), kept(15, 14));
  assert.deepEqual(log, [
    "undefined expired 7-9", 10, "undefined slow 10-12", "undefined unknown 12-14", 15,
  ]);
  env.socket.reply("ack");
  assert.deepEqual(acks(env).at(-1), 15);
});

test("a message received through a room is acknowledged after its handlers have finished", async (t) => {
  const { env, client } = await open(t, 3);
  let finish;
  client.on("chat", (content) => content === "both" && new Promise((resolve) => { finish = resolve; }));
  await receive(env, message("chat", "both", { id: "m", room: "lobby" }),
    { message_type: "position", epoch: "i1", offset: 5 }, kept(6, 5));
  assert.deepEqual(acks(env), []);
  finish();
  await settled();
  assert.deepEqual(acks(env), [5]);
});

test("a refused acknowledgement is not repeated at once", async (t) => {
  const { env } = await open(t, 3);
  await receive(env, kept(5, 3), kept(6, 5));
  assert.deepEqual(acks(env), [5]);
  env.socket.refuse("ack", "position");
  assert.deepEqual(acks(env), [5, 6], "the next message acknowledges again");
  await receive(env, kept(7, 6));
  env.socket.refuse("ack", "internal");
  assert.deepEqual(acks(env), [5, 6]);
  await receive(env, kept(8, 7));
  assert.deepEqual(acks(env), [5, 6, 8]);
});

for (const [cursorAfter, want] of [[3, [5]], [5, []]]) {
  test(`messages processed without a connection, with the server at ${cursorAfter}`, async (t) => {
    const { env, client } = await open(t, 3);
    let finish;
    client.on("chat", () => new Promise((resolve) => { finish = resolve; }));
    await receive(env, kept(5, 3));
    env.socket.end(1006);
    finish();
    await env.nextAttempt();
    env.socket.welcome(cursor(cursorAfter));
    await settled();
    assert.deepEqual(acks(env), want);
  });
}

test("the first connection reports no gap", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const gaps = [];
  client.onGap((gap) => gaps.push(gap));
  await settled();
  env.socket.welcome();
  await settled();
  assert.deepEqual(gaps, []);
});

test("without an inbox nothing is acknowledged", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  await receive(env, kept(5, 3));
  assert.deepEqual([got, acks(env)], [[5], []]);
});

test("no gap is reported for lost messages that were received", async (t) => {
  const { env, client, log } = await open(t, 3);
  client.on("chat", (content) => {
    log.push(content);
    return new Promise(() => {});
  });
  await receive(env, kept(5, 3), kept(6, 5), kept(7, 6));
  await env.reopen(cursor(3));
  const lost = { message_type: "position", epoch: "i1", offset: 6, recovered: false, reason: "overflow" };
  await receive(env, lost, kept(7, 6), kept(8, 7));
  assert.deepEqual(log, [5, 6, 7, 8]);
});

test("a new epoch is acknowledged over the same connection", async (t) => {
  const { env } = await open(t, 3);
  await receive(env, kept(5, 3));
  env.socket.reply("ack");
  await receive(env, kept(1, 0, { epoch: "i2" }));
  assert.equal(env.socket.last("ack").epoch, "i2");
  const newEpoch = { message_type: "position", epoch: "i3", offset: 4, recovered: false, reason: "epoch" };
  await receive(env, newEpoch, kept(5, 4, { epoch: "i3" }));
  env.socket.reply("ack");
  const { epoch, offset } = env.socket.last("ack");
  assert.deepEqual([epoch, offset], ["i3", 5]);
});

test("a message to the user and a room is acknowledged after it was delivered once", async (t) => {
  const { env, client, log } = await open(t, 3);
  let finish;
  client.on("chat", (content) => {
    log.push(content);
    return new Promise((resolve) => { finish = resolve; });
  });
  const room = client.join("lobby");
  room.on("chat", (content) => { log.push(`lobby ${content}`); });
  env.socket.reply("join", { epoch: "r1", offset: 0, top: 0 });
  const both = { id: "m", sender_id: null };
  await receive(env, kept(1, 0, { ...both, room: "lobby", epoch: "r1" }), kept(5, 3, both));
  assert.deepEqual(log, ["lobby 1", 1]);
  assert.deepEqual(acks(env), [], "its handler has not finished");
  finish();
  await settled();
  assert.deepEqual(acks(env), [5]);
  await receive(env, kept(6, 5));
  assert.deepEqual(log, ["lobby 1", 1, 6], "the position has advanced");
});
