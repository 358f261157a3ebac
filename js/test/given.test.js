// Rooms that the server's application puts us into: they recover like those that we join, and we do
// not join them by ourselves.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, settled, World } from "./kit.js";
import { frame, joined, kept, receive, since, take } from "./lobby.js";

const given = (content) => ({ message_type: "joined", room: "lobby", content });
const left = { message_type: "left", room: "lobby" };
const inbox = { epoch: "i1", offset: 0, top: 0 };

/** A client that is put into the lobby, and what it hears. */
async function put(t, content = joined(5)) {
  const world = new World(t);
  const client = await world.open({}, undefined, { inbox });
  const log = [];
  client.on("chat", (content) => log.push(content));
  client.onGap(({ room, reason, from, to }) => {
    log.push(`${room} ${reason} ${from?.offset}-${to?.offset}`);
  });
  receive(world, given(content));
  return { world, client, log };
}

/** The requests of the connection, without ids. */
const asked = ({ socket }) => socket.requests.map(({ id, ...request }) => request);

const recover = (offset) => ({ type: "recover", room: "lobby", since: since(offset) });

test("what was missed in a room comes when we are put into it again", async (t) => {
  const { world, log } = await put(t);
  receive(world, kept(7, 5));
  for (const at of [7, 10]) {
    await world.comeBack({ inbox });
    assert.deepEqual(asked(world), [], "it is not ours to join");
    receive(world, given(joined(at + 2)), kept(at + 3, at + 2)); // comes again
    assert.deepEqual(asked(world), [recover(at)]);
    world.socket.reply("recover", joined(at, at + 3, { recovered: true }));
    receive(world, kept(at + 1, at), kept(at + 2, at + 1), kept(at + 3, at + 2));
  }
  assert.deepEqual(take(log), [7, 8, 9, 10, 11, 12, 13]);
});

test("nothing is asked for where everything comes anyway", async (t) => {
  const { world, log } = await put(t);
  receive(world, kept(7, 5));
  await world.comeBack({ inbox });
  receive(world, given(joined(5, 9)), kept(7, 5), kept(8, 7), kept(9, 8));
  await world.comeBack({ inbox });
  receive(world, given(joined(9)), kept(10, 9));
  assert.deepEqual(asked(world), []);
  assert.deepEqual(take(log), [7, 8, 9, 10]);
});

test("a position that the room has never had is a gap", async (t) => {
  const { world, log } = await put(t, joined(50));
  await world.comeBack({ inbox });
  receive(world, given(joined(20)));
  world.socket.reply("recover", joined(20, 20, { recovered: false, reason: "ahead" }));
  receive(world, kept(21, 20));
  assert.deepEqual(take(log), ["lobby ahead 50-20", 21]);
});

test("we do not come back into a room into which we are not put again", async (t) => {
  const { world, log } = await put(t);
  await world.comeBack({ inbox });
  await world.comeBack({ inbox });
  await world.pass(20_000);
  assert.deepEqual(asked(world), []);
  receive(world, given(joined(9)));
  assert.deepEqual(asked(world), [recover(5)]);
  assert.deepEqual(take(log), []);
});

test("a hole is filled", async (t) => {
  const { world, log } = await put(t);
  receive(world, kept(7, 6));
  assert.deepEqual(asked(world), [recover(5)]);
  world.socket.reply("recover", joined(5, 7, { recovered: true }));
  receive(world, kept(6, 5), kept(7, 6), frame("position", { offset: 9 }), kept(10, 9));
  assert.deepEqual(take(log), [6, 7, 10]);
});

test("where the server cannot go back there is a gap", async (t) => {
  const { world, log } = await put(t);
  receive(world, kept(7, 6));
  world.socket.refuse("recover", "internal");
  receive(world, kept(8, 7));
  assert.deepEqual(take(log), ["lobby unknown 5-undefined", 8]);
});

test("where we are no member any more we keep the position", async (t) => {
  const { world, log } = await put(t);
  receive(world, kept(7, 6));
  world.socket.refuse("recover", "no_member");
  receive(world, given(joined(9)));
  world.socket.reply("recover", joined(5, 9, { recovered: true }));
  receive(world, kept(9, 5));
  assert.deepEqual(take(log), [9]);
});

test("who was taken out begins anew, whatever is answered late", async (t) => {
  const { world, log } = await put(t);
  receive(world, kept(7, 6), left, given(joined(20)));
  world.socket.refuse("recover", "no_member");
  receive(world, kept(21, 20));
  assert.deepEqual(asked(world), [recover(5)]);
  assert.deepEqual(take(log), [21]);
});

test("of a room that keeps nothing a gap is told", async (t) => {
  const { world, log } = await put(t, null);
  receive(world, message("chat", "one", { room: "lobby" }));
  await world.comeBack({ inbox });
  receive(world, given(undefined), message("chat", "two", { room: "lobby" }));
  assert.deepEqual(asked(world), []);
  assert.deepEqual(take(log), ["one", "lobby unknown undefined-undefined", "two"]);
});

test("a room that we join too is ours, until we leave it", async (t) => {
  const { world, client, log } = await put(t);
  receive(world, kept(6, 5));
  const room = client.join("lobby");
  room.onJoin(({ first, gap, recovered }) => log.push({ first, gap, recovered }));
  assert.deepEqual(asked(world), [{ type: "join", room: "lobby", since: since(6) }]);
  world.socket.reply("join", joined(6, 6, { recovered: true }));
  receive(world, kept(7, 6));
  assert.deepEqual(take(log), [6, { first: true, gap: false, recovered: 0 }, 7]);
  await world.comeBack({ inbox });
  receive(world, given(joined(8)));
  assert.deepEqual(asked(world), [{ type: "join", room: "lobby", since: since(7) }]);
  world.socket.reply("join", joined(7, 8, { recovered: true }));
  receive(world, kept(8, 7));
  assert.deepEqual(take(log), [8, { first: false, gap: false, recovered: 1 }]);
  room.leave();
  await world.pass(1);
  assert.equal(world.socket.requests.at(-1).type, "leave");
  await world.comeBack({ inbox });
  assert.deepEqual(asked(world), []);
});

test("what was sent before comes first, if we join and ask for it", async (t) => {
  const { world, client, log } = await put(t);
  receive(world, kept(6, 5));
  client.join("lobby", { history: 50 });
  assert.deepEqual(asked(world), [{ type: "join", room: "lobby", history: 50 }]);
  world.socket.reply("join", joined(4, 6));
  receive(world, kept(5, 4), kept(6, 5), kept(7, 6));
  assert.deepEqual(take(log), [6, 5, 6, 7]);
});

test("a room that we may not join is given nevertheless", async (t) => {
  const world = new World(t);
  const client = await world.open({}, undefined, { inbox });
  const log = [];
  const room = client.join("lobby");
  room.on("chat", (content) => log.push(content));
  room.onError(({ code }) => log.push(code));
  receive(world, given(joined(5)));
  world.socket.refuse("join", "forbidden");
  receive(world, kept(6, 5));
  assert.equal(room.joined, true);
  assert.deepEqual(take(log), ["forbidden", 6]);
  await world.comeBack({ inbox });
  receive(world, given(joined(7)));
  assert.deepEqual(asked(world), [recover(6)]);
  world.socket.reply("recover", joined(6, 7, { recovered: true }));
  receive(world, kept(7, 6));
  room.leave();
  await world.pass(1);
  receive(world, kept(9, 8));
  assert.deepEqual(asked(world), [recover(6), recover(7)], "it is not ours to leave");
  assert.deepEqual(take(log), [7]);
});

test("a room that we may not join again goes on where it was, if it is given", async (t) => {
  const world = new World(t);
  const client = await world.open({}, undefined, { inbox });
  const log = [];
  const room = client.join("lobby");
  room.on("chat", (content) => log.push(content));
  room.onError(({ code }) => log.push(code));
  world.socket.reply("join", joined(5));
  await world.comeBack({ inbox });
  receive(world, given(joined(7)));
  world.socket.refuse("join", "forbidden");
  assert.deepEqual(asked(world).slice(1), [recover(5)]);
  world.socket.reply("recover", joined(5, 7, { recovered: true }));
  receive(world, kept(7, 5));
  assert.deepEqual(take(log), ["forbidden", 7]);
});

test("the end of a client is no gap", async (t) => {
  const { world, client, log } = await put(t);
  receive(world, kept(7, 6));
  client.close();
  await world.pass(1);
  await settled();
  assert.deepEqual(take(log), []);
});

test("positions of a thousand rooms are kept", async (t) => {
  const world = new World(t);
  await world.open({}, undefined, { inbox });
  const names = Array.from({ length: 1_100 }, (_, i) => `r${i}`);
  const enter = (offset) => names.forEach((room) => {
    receive(world, { message_type: "joined", room, content: joined(offset) });
  });
  enter(1);
  await world.comeBack({ inbox });
  enter(2);
  assert.deepEqual(world.socket.requests.map(({ room }) => room), names.slice(100));
});
