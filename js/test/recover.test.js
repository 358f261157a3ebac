// Rooms that keep history: what was missed comes, once and in order, and what cannot is told.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message } from "./kit.js";
import { frame, joined, joins, kept, lobby, receive, since, take } from "./lobby.js";

test("what was missed comes behind a return, and then it is said that nothing is missing", async (t) => {
  const { world, log } = await lobby(t, 5);
  receive(world, kept(7, 5));
  await world.comeBack();
  const [{ id, ...join }] = world.socket.requests;
  assert.deepEqual(join, { type: "join", room: "lobby", since: since(7) });
  receive(world, kept(9, 7)); // comes again
  world.socket.reply("join", joined(7, 12, { recovered: true }));
  receive(world, kept(9, 7), message("chat", "not kept", { room: "lobby" }), kept(12, 9), kept(13, 12));
  assert.deepEqual(take(log), [7, 9, "not kept", 12, "got 2", 13]);
  await world.comeBack();
  world.socket.reply("join", joined(13, 14, { recovered: true }));
  receive(world, kept(14, 13));
  assert.deepEqual(take(log), [14, "got 1"]);
});

test("where nothing was missed that is said at once", async (t) => {
  const { world, log } = await lobby(t, 5);
  await world.comeBack();
  world.socket.reply("join", joined(5, 5, { recovered: true }));
  assert.deepEqual(take(log), ["got 0"]);
});

test("a return that is interrupted goes on with the next one", async (t) => {
  const { world, log } = await lobby(t, 5);
  await world.comeBack();
  world.socket.reply("join", joined(5, 9, { recovered: true }));
  receive(world, kept(7, 5));
  await world.comeBack();
  assert.deepEqual(world.socket.last("join").since, since(7));
  world.socket.reply("join", joined(7, 9, { recovered: true }));
  receive(world, kept(9, 7));
  assert.deepEqual(take(log), [7, 9, "got 2"]);
});

for (const reason of ["expired", "overflow", "ahead"]) {
  test(`what is kept no longer is a gap: ${reason}`, async (t) => {
    const { world, log } = await lobby(t, 50);
    await world.comeBack();
    const to = reason === "ahead" ? 20 : 60;
    world.socket.reply("join", joined(to, to, { recovered: false, reason }));
    receive(world, kept(to + 1, to));
    assert.deepEqual(take(log), ["back", `${reason} 50-${to}`, to + 1]);
  });
}

test("what was kept and is lost as a whole is a gap", async (t) => {
  const { world, log, room } = await lobby(t, 50);
  await world.comeBack();
  world.socket.reply("join", { epoch: "r2", offset: 2, top: 2, recovered: false, reason: "epoch" });
  receive(world, kept(3, 2, { epoch: "r2" }));
  assert.deepEqual(take(log), ["back", "epoch 50-2", 3]);
  await world.comeBack();
  assert.deepEqual(world.socket.last("join").since, since(3, "r2"));
  assert.equal(room.joined, false);
});

test("all that is kept since it was lost comes behind the gap", async (t) => {
  const { world, log } = await lobby(t, 50);
  await world.comeBack();
  world.socket.reply("join", { epoch: "r2", offset: 0, top: 2, recovered: false, reason: "epoch" });
  for (const [at, prev] of [[1, 0], [2, 1], [3, 2]]) receive(world, kept(at, prev, { epoch: "r2" }));
  assert.deepEqual(take(log), ["back", "epoch 50-0", 1, 2, 3]);
});

test("a room that keeps nothing any more has a gap after each return", async (t) => {
  const { world, log } = await lobby(t, 50);
  await world.comeBack();
  world.socket.reply("join", { recovered: false, reason: "unknown" });
  await world.comeBack();
  assert.equal(world.socket.last("join").since, undefined);
  world.socket.reply("join");
  assert.deepEqual(take(log),
    ["back", "unknown 50-undefined", "back", "unknown undefined-undefined"]);
});

test("a hole is filled", async (t) => {
  const { world, log } = await lobby(t, 5);
  receive(world, kept(9, 7));
  assert.deepEqual(joins(world).map((join) => join.since), [undefined, since(5)]);
  receive(world, kept(10, 9), kept(12, 11), message("chat", "not kept", { room: "lobby" }));
  assert.equal(joins(world).length, 2, "it is asked for once");
  world.socket.reply("join", joined(5, 12, { recovered: true }));
  receive(world, kept(7, 5), kept(9, 7), kept(10, 9), kept(12, 10));
  assert.deepEqual(take(log), ["not kept", 7, 9, 10, 12, "got 4"]);
});

test("who is taken out while he asks for what is missing does not slip in again", async (t) => {
  const { world, room, log } = await lobby(t, 5);
  room.onError(({ code }) => log.push(code));
  receive(world, kept(9, 7), { message_type: "left", room: "lobby" });
  assert.equal(world.socket.requests.at(-1).type, "leave");
  world.socket.reply("join", joined(5, 9, { recovered: true }));
  assert.deepEqual([room.joined, take(log)], [false, ["removed"]]);
});

test("a message of another life of the room is a hole", async (t) => {
  const { world, log } = await lobby(t, 5);
  receive(world, kept(1, 0, { epoch: "r2" }));
  assert.deepEqual(world.socket.last("join").since, since(5));
  world.socket.reply("join", { epoch: "r2", offset: 1, top: 1, recovered: false, reason: "epoch" });
  receive(world, kept(2, 1, { epoch: "r2" }));
  assert.deepEqual(take(log), ["back", "epoch 5-1", 2]);
});

test("in a room that drops messages a hole is one", async (t) => {
  const { world, log } = await lobby(t, 5, { more: { lossy: true } });
  receive(world, kept(9, 7), kept(10, 9));
  assert.equal(joins(world).length, 1);
  assert.deepEqual(take(log), ["slow 5-7", 9, 10]);
  receive(world, kept(3, 2, { epoch: "r2" })); // nobody knows what is missing there
  assert.deepEqual(world.socket.last("join").since, since(10));
});

test("what comes twice is dropped, whatever its id is", async (t) => {
  const { world, log } = await lobby(t, 5);
  receive(world, kept(7, 5), kept(7, 5, { id: "m" }), kept(5, 4), kept(9, 7, { id: "n" }));
  receive(world, kept(10, 9, { id: "n" }), kept(11, 10)); // known by its id, but not by its place
  assert.deepEqual(take(log), [7, 9, 11]);
});

test("a position says that nothing is missing", async (t) => {
  const { world, log } = await lobby(t, 5);
  receive(world, frame("position", { offset: 8 }), kept(9, 8), frame("position", { offset: 6 }), kept(10, 9));
  assert.deepEqual(take(log), [9, 10]);
  await world.comeBack();
  world.socket.reply("join", joined(10, 20, { recovered: true }));
  receive(world, frame("position", { offset: 20 }));
  assert.deepEqual(take(log), ["got 0"], "it may be all that comes");
});

test("a position may say that something is lost", async (t) => {
  const { world, log } = await lobby(t, 5);
  receive(world, frame("position", { offset: 8, recovered: false, reason: "expired" }), kept(9, 8));
  assert.deepEqual(take(log), ["expired 5-8", 9]);
  receive(world, frame("position", { offset: 12, recovered: false }));
  assert.deepEqual(take(log), ["unknown 9-12"], "it need not say why");
});

for (const lost of [
  frame("position", { offset: 20, recovered: false, reason: "overflow" }),
  frame("skipped", { from: 7, to: 20, reason: "slow" }),
]) {
  test(`what is lost while the rest comes is a gap: ${lost.message_type}`, async (t) => {
    const { world, log } = await lobby(t, 5);
    await world.comeBack();
    world.socket.reply("join", joined(5, 20, { recovered: true }));
    receive(world, kept(7, 5), lost, kept(21, 20));
    assert.deepEqual(take(log), [7, "back", `${lost.reason} 7-20`, 21]);
  });
}

test("a position in another life of the room is a hole", async (t) => {
  const { world } = await lobby(t, 5);
  receive(world, frame("position", { offset: 8, epoch: "r2" }));
  assert.deepEqual(world.socket.last("join").since, since(5));
});

test("what was skipped is told, if it is news", async (t) => {
  const { world, log } = await lobby(t, 5);
  const skipped = (from, to) => frame("skipped", { from, to, reason: "slow" });
  receive(world, skipped(5, 8), kept(9, 8), skipped(5, 8), skipped(10, 11), kept(12, 11));
  assert.deepEqual(take(log), ["slow 5-8", 9, "slow 9-11", 12]);
});

test("positions mean nothing while a join is not answered, nor where there is none", async (t) => {
  const { world, log } = await lobby(t, 5);
  await world.comeBack();
  receive(world, frame("skipped", { from: 5, to: 9, reason: "slow" }), frame("position", { offset: 12 }));
  world.socket.reply("join", joined(5, 5, { recovered: true }));
  receive(world, kept(6, 5));
  assert.deepEqual(take(log), ["got 0", 6]);
});

test("the client hears of the gaps of all rooms, and of its own", async (t) => {
  const inbox = { epoch: "i1", offset: 0, top: 0 };
  const { world, client } = await lobby(t, 5, { welcome: { inbox } });
  client.join("hall"); // keeps nothing
  world.socket.reply("join");
  const gaps = [];
  client.onGap(({ room, reason }) => gaps.push(`${room} ${reason}`));
  const comeBack = async (welcome, recovered) => {
    await world.comeBack(welcome);
    for (const { id, room } of joins(world)) {
      const content = room === "hall" ? undefined : joined(5, 5, { recovered, reason: "expired" });
      world.socket.receive({ message_type: "reply", id, content });
    }
    return take(gaps);
  };
  assert.deepEqual(await comeBack({ inbox }, true), ["hall unknown"]);
  assert.deepEqual(await comeBack({ inbox }, false), ["lobby expired", "hall unknown"]);
  assert.deepEqual(await comeBack({}, true), ["undefined unknown", "hall unknown"]);
});

test("a room that is refused while we are in it is left", async (t) => {
  const { world, room, log } = await lobby(t, 5);
  room.onError(({ code }) => log.push(code));
  receive(world, kept(9, 7));
  world.socket.refuse("join", "forbidden");
  assert.equal(world.socket.requests.at(-1).type, "leave");
  assert.deepEqual([room.joined, take(log)], [false, ["forbidden"]]);
});
