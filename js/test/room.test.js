// Rooms: joins, leaves and errors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { expired, message, settled, TestEnv } from "./helpers.js";

const types = (socket) => socket.requests.map(({ type, room }) => `${type} ${room}`);

test("a room is joined when there is a connection, and again over each new one", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const room = client.join("lobby");
  const joins = [];
  room.onJoin((join) => joins.push(join));
  await settled();
  for (const _ of [1, 2, 3]) {
    assert.equal(room.joined, false);
    env.socket.welcome();
    assert.deepEqual(types(env.socket), ["join lobby"]);
    env.socket.reply("join");
    assert.equal(room.joined, true);
    env.socket.end(1006);
    await env.nextAttempt();
  }
  assert.deepEqual(joins, [
    { first: true, gap: false, recovered: 0 },
    { first: false, gap: true, recovered: 0 }, { first: false, gap: true, recovered: 0 },
  ]);
});

test("handlers of a room receive its messages, those of the client all messages", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.join("a").on("chat", (content) => got.push(`a ${content}`));
  client.join("b").on("chat", (content) => got.push(`b ${content}`));
  client.on("chat", (content, { room }) => got.push(`client ${content} ${room}`));
  env.socket.receive(message("chat", 1, { room: "a" }));
  env.socket.receive(message("chat", 2));
  env.socket.receive(message("chat", 3, { room: "elsewhere" }));
  assert.deepEqual(got, ["a 1", "client 1 a", "client 2 undefined", "client 3 elsewhere"]);
});

test("two joins share one room until both have left", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const one = client.join("lobby");
  env.socket.reply("join");
  const two = client.join("lobby");
  assert.equal(one, two);
  one.leave();
  await env.pass(1);
  assert.deepEqual(types(env.socket), ["join lobby"]);
  two.leave();
  await env.pass(1);
  assert.deepEqual(types(env.socket), ["join lobby", "leave lobby"]);
  assert.equal(two.joined, false);
  await env.reopen();
  assert.deepEqual(types(env.socket), []);
});

test("a component that is mounted twice stays in its room", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const first = client.join("lobby");
  first.leave();
  assert.equal(client.join("lobby"), first);
  await env.pass(1_000);
  assert.deepEqual(types(env.socket), ["join lobby"]);
  first.leave();
  first.leave();
  await env.pass(1);
  assert.deepEqual(types(env.socket), ["join lobby", "leave lobby"]);
  assert.notEqual(client.join("lobby"), first);
});

test("a room that is left before there is a connection is not joined", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  client.join("lobby").leave();
  await env.pass(1);
  env.socket.welcome();
  assert.deepEqual(env.socket.requests, []);
});

for (const code of ["forbidden", "denied", "limit"]) {
  test(`a room refused with ${code} is not joined again until join is called`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const room = client.join("lobby", { presence: true });
    const errors = [];
    room.onError((error) => errors.push(error.code));
    env.socket.refuse("join", code);
    assert.deepEqual(errors, [code]);
    await env.reopen();
    assert.deepEqual(types(env.socket), []);

    assert.equal(client.join("lobby"), room);
    assert.deepEqual(types(env.socket), ["join lobby"]);
    env.socket.reply("join");
    assert.equal(room.joined, true);
  });
}

test("a room can be joined again in the error handler", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  room.onError(() => client.join("lobby"));
  env.socket.refuse("join", "denied");
  assert.deepEqual(types(env.socket), ["join lobby", "join lobby"]);
  env.socket.reply("join");
  assert.equal(room.joined, true);
});

test("a refusal without a handler is reported as uncaught", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const { mock } = t.mock.method(console, "error", () => {});
  client.join("lobby");
  env.socket.refuse("join", "forbidden");
  await settled();
  assert.equal(mock.calls[0].arguments[0].code, "forbidden");
});

test("a connection that ends before the answer does not refuse the join", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { presence: true });
  const errors = [];
  room.onError((error) => errors.push(error.code));
  await env.reopen();
  assert.deepEqual(types(env.socket), ["join lobby"]);
  env.socket.end(4403);
  assert.deepEqual(errors, []);
});

const left = (room) => JSON.stringify({ message_type: "left", room });

test("a room from which the server removed the client is not joined again", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const errors = [];
  const [stays, goes] = ["stays", "goes"].map((name) => {
    const room = client.join(name);
    env.socket.reply("join");
    room.onError(({ code }) => errors.push(`${name} ${code}`));
    return room;
  });
  env.socket.receive(left("goes"));
  env.socket.receive(left("never joined"));
  assert.deepEqual([stays.joined, goes.joined], [true, false]);
  assert.deepEqual(errors, ["goes removed"]);
  client.join("goes");
  assert.deepEqual(types(env.socket).slice(-1), ["join goes"]);
  env.socket.reply("join");
  assert.equal(goes.joined, true);
});

test("after a removal during a join the answer decides", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  const errors = [];
  room.onError(({ code }) => errors.push(code));
  env.socket.receive(left("lobby"));
  env.socket.reply("join");
  assert.deepEqual([room.joined, errors], [true, []]);
  env.socket.receive(left("lobby"));
  assert.deepEqual([room.joined, errors], [false, ["removed"]]);
});

test("several frames at once are handled one after another", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const events = [];
  const room = client.join("lobby", { presence: true });
  room.onJoin(() => events.push("join"));
  room.onPresence(({ userCount }) => events.push(userCount));
  room.on("chat", (content) => events.push(content));
  env.socket.reply("join");
  env.socket.receive(message("chat", "hi", { room: "lobby" }));
  const frame = (user_count) => ({ message_type: "presence", room: "lobby", ver: 1, show: "count", user_count });
  env.socket.receive(frame(7));
  env.socket.receive(message("chat", "ho", { room: "lobby" }));
  env.socket.receive(frame(8));
  assert.deepEqual(events, ["join", "hi", 7, "ho", 8]);
});
