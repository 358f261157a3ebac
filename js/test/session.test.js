// Sessions, which the next connection goes on with.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, World } from "./kit.js";
import { joined, lobby } from "./lobby.js";

for (const [code, resumes] of [
  [1006, true], [1011, true], [1012, true], [4300, true], [1001, false],
]) {
  test(`after ${code} the session is ${resumes ? "" : "not "}resumed`, async (t) => {
    const { world } = await lobby(t, 5, { welcome: { session: "s1" } });
    assert.equal(world.socket.last("resume"), undefined);
    await world.comeBack({ session: "s2" }, code);
    const types = world.socket.requests.map(({ type, session }) => session ?? type);
    assert.deepEqual(types, resumes ? ["s1", "join"] : ["join"]);
    if (!resumes) return;
    world.socket.refuse("resume", "session");
    world.socket.reply("join", joined(5, 5, { recovered: true }));
    await world.comeBack({}, code);
    assert.equal(world.socket.last("resume").session, "s2");
    await world.comeBack({}, code);
    assert.equal(world.socket.last("resume"), undefined, "it is good for once");
  });
}

test("what comes before the room is joined again comes behind the gap", async (t) => {
  const world = new World(t);
  const client = await world.open({}, undefined, { session: "s1" });
  const room = client.join("lobby");
  const log = [];
  room.on("chat", (content) => log.push(content));
  room.onJoin(({ gap }) => log.push(gap ? "back" : "in"));
  room.onGap(({ reason }) => log.push(reason));
  world.socket.reply("join");
  await world.comeBack({ session: "s2" });
  world.socket.receive(message("chat", 1, { room: "lobby" })); // the session is in the room already
  world.socket.reply("resume", { rooms: ["lobby"] });
  world.socket.reply("join");
  world.socket.receive(message("chat", 2, { room: "lobby" }));
  assert.deepEqual(log, ["in", "back", "unknown", 1, 2]);
  await world.comeBack({ session: "s3" });
  world.socket.reply("resume", { rooms: ["lobby"] });
  world.socket.reply("join");
  assert.deepEqual(log.slice(5), ["back", "unknown"]);
});

test("an attempt that fails does not lose the session", async (t) => {
  const { world } = await lobby(t, 5, { welcome: { session: "s1" } });
  world.socket.end(1006);
  await world.nextAttempt();
  world.socket.end(1006);
  await world.pass(1);
  await world.nextAttempt();
  world.socket.welcome();
  assert.equal(world.socket.last("resume").session, "s1");
});

test("after a final end nothing is resumed", async (t) => {
  const { world, client } = await lobby(t, 5, { welcome: { session: "s1" } });
  world.socket.end(4403);
  client.reconnect();
  await world.pass(1);
  world.socket.welcome();
  assert.equal(world.socket.last("resume"), undefined);
});

const asked = ({ socket }) => socket.requests.map(({ type, room }) => room ? `${type} ${room}` : type);

test("a session that goes on is not in a room that was left meanwhile", async (t) => {
  const { world, client, room } = await lobby(t, 5, { welcome: { session: "s1" } });
  world.socket.end(1006);
  room.leave();
  client.join("hall").leave();
  client.join("kitchen").leave();
  await world.pass(1);
  client.join("kitchen");
  await world.nextAttempt();
  world.socket.welcome({ session: "s2" });
  assert.deepEqual(asked(world), ["resume", "leave lobby", "leave hall", "join kitchen"]);
  await world.comeBack({ session: "s3" });
  assert.deepEqual(asked(world), ["resume", "leave lobby", "leave hall", "join kitchen"], "not answered");
});

test("a leave that was not answered is asked for again if the session goes on", async (t) => {
  const { world, room } = await lobby(t, 5, { welcome: { session: "s1" } });
  room.leave();
  await world.pass(1);
  assert.equal(world.socket.last("leave").room, "lobby");
  await world.comeBack({ session: "s2" });
  assert.deepEqual(asked(world), ["resume", "leave lobby"]);
  world.socket.reply("leave");
  await world.comeBack({});
  assert.deepEqual(asked(world), ["resume"]);
});

test("without a session a room that was left is not left again", async (t) => {
  const { world, room } = await lobby(t, 5);
  world.socket.end(1006);
  room.leave();
  await world.nextAttempt();
  world.socket.welcome();
  assert.deepEqual(asked(world), []);
});
