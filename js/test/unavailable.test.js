// What the server cannot do for now, because it cannot reach other servers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { codeOf, outcome, settled, TestEnv } from "./helpers.js";

const IDENTITY = /"id":\d+,/;

/** Answers the last request of this type: not now. */
function delay(socket, type) {
  const content = { code: "unavailable", message: "not now", retry_ms: 1_000 };
  socket.receive({ message_type: "error", id: socket.last(type).id, content });
}

test("a message is sent again, with growing waits and the same id", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const sent = client.join("lobby").send("chat", "hi", { receipt: true });
  const { socket } = env;
  const count = () => socket.requests.filter(({ type }) => type === "send").length;
  for (const [i, wait] of [1_500, 2_000, 3_000, 5_000, 6_000, 6_000].entries()) { // random is 0.5
    delay(socket, "send");
    await env.pass(wait - 250);
    assert.equal(count(), i + 1, "too early");
    await env.pass(250);
    assert.equal(count(), i + 2);
    assert.equal(await outcome(sent), "pending");
  }
  const frames = socket.sent.filter((data) => data.includes('"send"'));
  assert.deepEqual(new Set(frames).size, 1);
  socket.reply("send", { offset: 1, epoch: "e" });
  assert.equal((await outcome(sent)).offset, 1);
  await env.pass(20_000);
  assert.equal(count(), 7);
});

test("other requests do not wait, and those that do count", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({ outbox: { messages: 2 } });
  const first = client.all.send("chat", 1);
  delay(env.socket, "send");
  const second = client.all.send("chat", 2);
  env.socket.reply("send");
  assert.equal(typeof (await outcome(second)).id, "string");
  const third = client.all.send("chat", 3);
  third.catch(() => {});
  assert.equal(await codeOf(client.all.send("chat", 4)), "outbox_full");
  assert.equal(await outcome(first), "pending");
  client.close();
  await env.pass(1);
  assert.deepEqual([await codeOf(first), await codeOf(third)], ["closed", "closed"]);
  await env.pass(20_000);
  assert.equal(env.socket.requests.length, 3);
});

test("a message that waits is sent over the next connection, once", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const sent = client.all.send("chat", 1);
  delay(env.socket, "send");
  await env.reopen();
  assert.equal(env.socket.requests.length, 1);
  await env.pass(20_000);
  assert.equal(env.socket.requests.length, 1);
  env.socket.reply("send");
  assert.equal(typeof (await outcome(sent)).id, "string");
});

test("a call is not repeated", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const call = client.call("add", 1);
  delay(env.socket, "call");
  const error = await outcome(call);
  assert.equal(error.code, "unavailable");
  assert.equal(error.retryAfter, 1_000);
  await env.pass(20_000);
  assert.equal(env.socket.requests.length, 1);
});

test("history and acknowledgements are asked for again", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { inbox: { epoch: "i", offset: 0, top: 1 } });
  const history = client.join("lobby").history();
  env.socket.receive({
    message_type: "chat", sender_id: "bob", content: 1, timestamp: 1, offset: 1, prev: 0, epoch: "i",
  });
  await settled();
  for (const type of ["history", "ack"]) {
    const before = env.socket.last(type);
    delay(env.socket, type);
    await env.pass(1_500);
    const again = env.socket.requests.filter((request) => request.type === type);
    assert.deepEqual(again, [before, before]);
    env.socket.reply(type, {});
  }
  assert.deepEqual((await outcome(history)).messages, []);
});

test("a room is joined when that is possible", async (t) => {
  const env = new TestEnv(t);
  const room = (await env.open()).join("lobby");
  const events = [];
  room.onJoin((join) => events.push(join));
  room.onError((error) => events.push(error));
  delay(env.socket, "join");
  await env.pass(1_500);
  assert.equal(room.joined, false);
  const [first, again] = env.socket.sent;
  assert.equal(first, again);
  assert.match(first, IDENTITY);
  env.socket.reply("join", {});
  assert.equal(room.joined, true);
  assert.deepEqual(events, [{ first: true, gap: false, recovered: 0 }]);
});

test("a room that was left meanwhile is not joined", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const errors = [];
  const room = client.join("lobby");
  room.onError((error) => errors.push(error));
  delay(env.socket, "join");
  room.leave();
  await env.pass(20_000);
  assert.deepEqual(env.socket.requests.map(({ type }) => type), ["join", "leave"]);
  env.socket.reply("leave");
  client.join("lobby");
  assert.equal(env.socket.last("join").id, 3);
  assert.deepEqual(errors, []);
});
