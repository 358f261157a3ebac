// Rooms: joins, leaves, members and errors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { expired, message, notice, settled, TestEnv } from "./helpers.js";

const types = (socket) => socket.requests.map(({ type, room }) => `${type} ${room}`);

/** Answers a presence request with these users. */
const list = (socket, ...users) =>
  socket.reply("presence", { users, user_count: users.length, connection_count: users.length });

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
    const room = client.join("lobby", { members: true });
    const errors = [];
    room.onError((error) => errors.push(error.code));
    env.socket.refuse("join", code);
    env.socket.refuse("presence", "forbidden");
    assert.deepEqual(errors, [code], "once");
    await env.reopen();
    assert.deepEqual(types(env.socket), []);

    assert.equal(client.join("lobby"), room);
    assert.deepEqual(types(env.socket), ["join lobby", "presence lobby"]);
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
  const room = client.join("lobby", { members: true });
  const errors = [];
  room.onError((error) => errors.push(error.code));
  await env.reopen();
  assert.deepEqual(types(env.socket), ["join lobby", "presence lobby"]);
  env.socket.end(4403);
  assert.deepEqual(errors, []);
});

test("members are the server's list, updated by later notices", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { members: true });
  const seen = [];
  room.onMembers((members) => seen.push(members.join()));
  assert.deepEqual(types(env.socket), ["join lobby", "presence lobby"]);
  env.socket.reply("join");
  const { socket } = env;
  socket.receive(notice("room_join", "early", "lobby")); // before the list, so ignored
  list(socket, "bob", "alice");
  socket.receive(notice("room_join", "aaron", "lobby"));
  socket.receive(notice("room_join", "bob", "lobby"));
  socket.receive(notice("room_join", null, "lobby"));
  socket.receive(notice("room_join", "zoe", "elsewhere"));
  socket.receive(notice("room_leave", "bob", "lobby"));
  socket.receive(notice("room_leave", "bob", "lobby"));
  assert.deepEqual(seen, ["alice,bob", "aaron,alice,bob", "aaron,alice"]);
  assert.deepEqual([room.members, room.memberCount], [["aaron", "alice"], 2]);
});

test("members are kept until the list of the new connection arrives", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { members: true });
  env.socket.reply("join");
  list(env.socket, "alice", "bob");
  const seen = [];
  room.onMembers((members) => seen.push(members.join()));
  await env.reopen();
  assert.deepEqual(room.members, ["alice", "bob"]);
  env.socket.receive(notice("room_join", "early", "lobby"));
  list(env.socket, "alice", "zoe");
  assert.deepEqual(seen, ["alice,zoe"]);
});

test("only the number of more than 1,000 members is known", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { members: true });
  env.socket.reply("presence", { users: null, user_count: 1_234, connection_count: 2_000 });
  env.socket.receive(notice("room_join", "zoe", "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_235]);
  env.socket.receive(notice("room_leave", "zoe", "lobby"));
  env.socket.receive(notice("room_leave", "bob", "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_233]);
});

test("only the number is known once there are more than 1,000 members", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { members: true });
  const users = Array.from({ length: 999 }, (_, i) => `user${i}`);
  env.socket.reply("join");
  env.socket.reply("presence", { users, user_count: 999 });
  for (const user of ["a", "b"]) env.socket.receive(notice("room_join", user, "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_001]);
  env.socket.receive(notice("room_leave", "a", "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_000]);
});

test("members can be requested later, and be refused", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  const errors = [];
  const joins = [];
  room.onError((error) => errors.push(error.code));
  room.onJoin((join) => joins.push(join));
  env.socket.reply("join");
  client.join("lobby", { members: true });
  env.socket.reply("join");
  env.socket.refuse("presence", "forbidden");
  assert.deepEqual([room.joined, joins.length, errors], [true, 1, ["forbidden"]]);
});

test("members are not requested by default", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  env.socket.reply("join");
  env.socket.receive(notice("room_join", "bob", "lobby"));
  assert.deepEqual(room.members, []);
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
  const room = client.join("lobby", { members: true });
  room.onJoin(() => events.push("join"));
  room.onMembers((members) => events.push(members.join()));
  room.on("chat", (content) => events.push(content));
  env.socket.reply("join");
  env.socket.receive(message("chat", "hi", { room: "lobby" }));
  list(env.socket, "alice");
  env.socket.receive(notice("room_join", "bob", "lobby"));
  assert.deepEqual(events, ["join", "hi", "alice", "alice,bob"]);
});
