// Rooms: joined for good, with their members and without gaps that nobody hears of.

import assert from "node:assert/strict";
import { test } from "node:test";
import { expired, message, notice, settled, World } from "./kit.js";

const types = (socket) => socket.requests.map(({ type, room }) => `${type} ${room}`);

/** Answers presence with these users. */
const list = (socket, ...users) =>
  socket.reply("presence", { users, user_count: users.length, connection_count: users.length });

test("a room is joined as soon as there is a connection, and with each new one", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const room = client.join("lobby");
  const joins = [];
  room.onJoin((join) => joins.push(join));
  await settled();
  for (const _ of [1, 2, 3]) {
    assert.equal(room.joined, false);
    world.socket.welcome();
    assert.deepEqual(types(world.socket), ["join lobby"]);
    world.socket.reply("join");
    assert.equal(room.joined, true);
    world.socket.end(1006);
    await world.nextAttempt();
  }
  assert.deepEqual(joins, [
    { first: true, gap: false, recovered: 0 },
    { first: false, gap: true, recovered: 0 }, { first: false, gap: true, recovered: 0 },
  ]);
});

test("a room hears what is for it, and the client hears all", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.join("a").on("chat", (content) => got.push(`a ${content}`));
  client.join("b").on("chat", (content) => got.push(`b ${content}`));
  client.on("chat", (content, { room }) => got.push(`client ${content} ${room}`));
  world.socket.receive(message("chat", 1, { room: "a" }));
  world.socket.receive(message("chat", 2));
  world.socket.receive(message("chat", 3, { room: "elsewhere" }));
  assert.deepEqual(got, ["a 1", "client 1 a", "client 2 undefined", "client 3 elsewhere"]);
});

test("a room that is joined twice is one, and left when both have left", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const one = client.join("lobby");
  world.socket.reply("join");
  const two = client.join("lobby");
  assert.equal(one, two);
  one.leave();
  await world.pass(1);
  assert.deepEqual(types(world.socket), ["join lobby"]);
  two.leave();
  await world.pass(1);
  assert.deepEqual(types(world.socket), ["join lobby", "leave lobby"]);
  assert.equal(two.joined, false);
  await world.comeBack();
  assert.deepEqual(types(world.socket), []);
});

test("a component that is mounted twice stays in its room", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const first = client.join("lobby");
  first.leave();
  assert.equal(client.join("lobby"), first);
  await world.pass(1_000);
  assert.deepEqual(types(world.socket), ["join lobby"]);
  first.leave();
  first.leave();
  await world.pass(1);
  assert.deepEqual(types(world.socket), ["join lobby", "leave lobby"]);
  assert.notEqual(client.join("lobby"), first);
});

test("a room that is left before there is a connection is not joined", async (t) => {
  const world = new World(t);
  const client = world.connect();
  client.join("lobby").leave();
  await world.pass(1);
  world.socket.welcome();
  assert.deepEqual(world.socket.requests, []);
});

for (const code of ["forbidden", "denied", "limit"]) {
  test(`a room that is refused with ${code} is left alone until it is joined again`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const room = client.join("lobby", { members: true });
    const errors = [];
    room.onError((error) => errors.push(error.code));
    world.socket.refuse("join", code);
    world.socket.refuse("presence", "forbidden");
    assert.deepEqual(errors, [code], "once");
    await world.comeBack();
    assert.deepEqual(types(world.socket), []);

    assert.equal(client.join("lobby"), room);
    assert.deepEqual(types(world.socket), ["join lobby", "presence lobby"]);
    world.socket.reply("join");
    assert.equal(room.joined, true);
  });
}

test("a room can be joined again right where it is refused", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby");
  room.onError(() => client.join("lobby"));
  world.socket.refuse("join", "denied");
  assert.deepEqual(types(world.socket), ["join lobby", "join lobby"]);
  world.socket.reply("join");
  assert.equal(room.joined, true);
});

test("a refusal that nobody handles is reported", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const { mock } = t.mock.method(console, "error", () => {});
  client.join("lobby");
  world.socket.refuse("join", "forbidden");
  await settled();
  assert.equal(mock.calls[0].arguments[0].code, "forbidden");
});

test("a connection that ends before the answer is no refusal", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby", { members: true });
  const errors = [];
  room.onError((error) => errors.push(error.code));
  await world.comeBack();
  assert.deepEqual(types(world.socket), ["join lobby", "presence lobby"]);
  world.socket.end(4403);
  assert.deepEqual(errors, []);
});

test("members are who the server lists, and the notices behind that", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby", { members: true });
  const seen = [];
  room.onMembers((members) => seen.push(members.join()));
  assert.deepEqual(types(world.socket), ["join lobby", "presence lobby"]);
  world.socket.reply("join");
  const { socket } = world;
  socket.receive(notice("room_join", "early", "lobby")); // in the list, if still there
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

test("members of a new connection replace the old ones, and until then those stay", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby", { members: true });
  world.socket.reply("join");
  list(world.socket, "alice", "bob");
  const seen = [];
  room.onMembers((members) => seen.push(members.join()));
  await world.comeBack();
  assert.deepEqual(room.members, ["alice", "bob"]);
  world.socket.receive(notice("room_join", "early", "lobby"));
  list(world.socket, "alice", "zoe");
  assert.deepEqual(seen, ["alice,zoe"]);
});

test("of more than 1,000 members the number is known", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby", { members: true });
  world.socket.reply("presence", { users: null, user_count: 1_234, connection_count: 2_000 });
  world.socket.receive(notice("room_join", "zoe", "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_235]);
  world.socket.receive(notice("room_leave", "zoe", "lobby"));
  world.socket.receive(notice("room_leave", "bob", "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_233]);
});

test("of those that become more than 1,000 the number is known", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby", { members: true });
  const users = Array.from({ length: 999 }, (_, i) => `user${i}`);
  world.socket.reply("join");
  world.socket.reply("presence", { users, user_count: 999 });
  for (const user of ["a", "b"]) world.socket.receive(notice("room_join", user, "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_001]);
  world.socket.receive(notice("room_leave", "a", "lobby"));
  assert.deepEqual([room.members, room.memberCount], [[], 1_000]);
});

test("members can be asked for later, and be refused", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby");
  const errors = [];
  const joins = [];
  room.onError((error) => errors.push(error.code));
  room.onJoin((join) => joins.push(join));
  world.socket.reply("join");
  client.join("lobby", { members: true });
  world.socket.reply("join");
  world.socket.refuse("presence", "forbidden");
  assert.deepEqual([room.joined, joins.length, errors], [true, 1, ["forbidden"]]);
});

test("who asks for no members gets none", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby");
  world.socket.reply("join");
  world.socket.receive(notice("room_join", "bob", "lobby"));
  assert.deepEqual(room.members, []);
});

const left = (room) => JSON.stringify({ message_type: "left", room });

test("a room that the server takes us out of is not joined again", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const errors = [];
  const [stays, goes] = ["stays", "goes"].map((name) => {
    const room = client.join(name);
    world.socket.reply("join");
    room.onError(({ code }) => errors.push(`${name} ${code}`));
    return room;
  });
  world.socket.receive(left("goes"));
  world.socket.receive(left("never joined"));
  assert.deepEqual([stays.joined, goes.joined], [true, false]);
  assert.deepEqual(errors, ["goes removed"]);
  client.join("goes");
  assert.deepEqual(types(world.socket).slice(-1), ["join goes"]);
  world.socket.reply("join");
  assert.equal(goes.joined, true);
});

test("a room that the server takes us out of while we ask for it depends on the answer", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby");
  const errors = [];
  room.onError(({ code }) => errors.push(code));
  world.socket.receive(left("lobby"));
  world.socket.reply("join");
  assert.deepEqual([room.joined, errors], [true, []]);
  world.socket.receive(left("lobby"));
  assert.deepEqual([room.joined, errors], [false, ["removed"]]);
});

test("several frames at once are taken one after another", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const events = [];
  const room = client.join("lobby", { members: true });
  room.onJoin(() => events.push("join"));
  room.onMembers((members) => events.push(members.join()));
  room.on("chat", (content) => events.push(content));
  world.socket.reply("join");
  world.socket.receive(message("chat", "hi", { room: "lobby" }));
  list(world.socket, "alice");
  world.socket.receive(notice("room_join", "bob", "lobby"));
  assert.deepEqual(events, ["join", "hi", "alice", "alice,bob"]);
});
