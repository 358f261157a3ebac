// Ephemeral messages: sent at once or never, and without an answer.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { message, outcome, settled, TestEnv } from "./helpers.js";

const ephemeral = { ephemeral: true };

test("an ephemeral message has no ID and no answer", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const senders = [
    [client.all, { all: true }], [client.user("bob"), { user: "bob" }],
    [client.conn("conn_2"), { conn: "conn_2" }], [client.join("lobby"), { room: "lobby" }],
  ];
  for (const [sender, to] of senders) {
    assert.equal(sender.send("cursor", [3, 4], ephemeral), undefined);
    assert.deepEqual(JSON.parse(env.socket.sent.at(-1)),
      { type: "send", ...to, message_type: "cursor", content: [3, 4], ephemeral: true });
  }
  env.socket.end(1006);
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(env.socket.requests.map(({ type }) => type), ["join"], "none is repeated");
});

test("of what is sent during 5 s without a connection, all but ephemeral messages arrive", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  env.socket.reply("join");
  env.random.mockImplementation(() => 1);
  env.socket.end(1006);
  const sent = [];
  for (let i = 0; i < 120; i++) {
    room.send("cursor", i, ephemeral);
    if (i % 10 === 0) sent.push(room.send("chat", i));
    await env.pass(5_000 / 120);
    if (env.status.state === "connecting") env.socket.end(1006);
  }
  assert.notEqual(env.status.state, "open");
  await env.nextAttempt();
  env.socket.welcome();
  env.socket.reply("join");
  room.send("cursor", 120, ephemeral);
  const got = env.socket.requests.filter(({ type }) => type === "send");
  assert.deepEqual(got.map(({ content }) => content), [...Array.from({ length: 12 }, (_, i) => i * 10), 120]);
  for (const { id } of got) env.socket.receive({ message_type: "reply", id });
  assert.equal(await outcome(Promise.all(sent).then(() => "done")), "done");
});

test("an ephemeral message is dropped while more than 64 KiB wait to be sent", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.bufferedAmount = 65_537;
  client.all.send("cursor", 1, ephemeral);
  assert.deepEqual(env.socket.sent, []);
  env.socket.bufferedAmount = 65_536;
  client.all.send("cursor", 2, ephemeral);
  assert.deepEqual(env.socket.requests.map(({ content }) => content), [2]);
});

test("an ephemeral message is dropped before the first connection and after close", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  client.all.send("cursor", 1, ephemeral);
  await settled();
  env.socket.welcome();
  assert.deepEqual(env.socket.sent, []);
  client.close();
  await env.pass(1);
  client.all.send("cursor", 2, ephemeral);
  assert.deepEqual(env.socket.sent, []);
});

test("ephemeral messages are sent while the outbox is full", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({ outbox: { messages: 1 } });
  void client.all.send("chat", 1).catch(() => {});
  client.all.send("cursor", 2, ephemeral);
  assert.deepEqual(env.socket.requests.map(({ content }) => content), [1, 2]);
});

test("an ephemeral message with another option throws", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  for (const option of [{ id: "x" }, { latest: "k" }, { ttl: 1_000 }, { receipt: true }]) {
    assert.throws(() => client.all.send("cursor", 1, { ...ephemeral, ...option }),
      (error) => error instanceof RealtimeError && error.code === "bad_request");
  }
  assert.deepEqual(env.socket.sent, []);
});

test("an ephemeral message that is too large throws", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  assert.throws(() => client.all.send("cursor", "x".repeat(65_536), ephemeral),
    (error) => error instanceof RealtimeError && error.code === "too_large");
  assert.deepEqual(env.socket.sent, []);
});

test("an ephemeral message is received like others, and moves no position", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  const room = client.join("lobby");
  client.onGap((gap) => got.push(gap));
  room.on("cursor", (content) => got.push(content));
  room.on("chat", (content) => got.push(content));
  env.socket.reply("join", { epoch: "r1", offset: 7, top: 9 });
  const at = (offset) => ({ room: "lobby", offset, prev: offset - 1, epoch: "r1" });
  env.socket.receive(message("cursor", "c", { room: "lobby", ephemeral: true }));
  env.socket.receive(message("chat", 8, at(8)));
  env.socket.receive(message("cursor", "c", { room: "lobby", ephemeral: true }));
  env.socket.receive(message("chat", 9, at(9)));
  assert.deepEqual(got, ["c", 8, "c", 9]);
});

test("a refusal that names a room is an error of the room", async (t) => {
  const env = new TestEnv(t);
  const { mock } = t.mock.method(console, "error", () => {});
  const client = await env.open();
  const room = client.join("lobby");
  const refuse = (more) => env.socket.receive({
    message_type: "error", id: null, content: { code: "forbidden", message: "no", message_type: "cursor", ...more },
  });
  const uncaught = async () => {
    await settled();
    return mock.calls.map(({ arguments: [{ message }] }) => message);
  };
  const errors = [];
  const remove = room.onError(({ message }) => errors.push(message));
  refuse({ room: "lobby" }); // before the answer to the join, too
  env.socket.reply("join");
  refuse({ room: "lobby", message_type: undefined });
  assert.deepEqual([errors, await uncaught()], [["cursor: no", "no"], []]);
  assert.equal(room.joined, true);
  refuse({ room: "hall" });
  refuse();
  remove();
  refuse({ room: "lobby" });
  assert.deepEqual([errors.length, (await uncaught()).length], [2, 3]);
});
