// Sessions that the next connection resumes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, TestEnv } from "./helpers.js";
import { joined, lobby } from "./lobby.js";

for (const [code, resumes] of [
  [1006, true], [1011, true], [1012, true], [4300, true], [1001, false],
]) {
  test(`after ${code} the session is ${resumes ? "" : "not "}resumed`, async (t) => {
    const { env } = await lobby(t, 5, { welcome: { session: "s1" } });
    assert.equal(env.socket.last("resume"), undefined);
    await env.reopen({ session: "s2" }, code);
    const types = env.socket.requests.map(({ type, session }) => session ?? type);
    assert.deepEqual(types, resumes ? ["s1", "join"] : ["join"]);
    if (!resumes) return;
    env.socket.refuse("resume", "session");
    env.socket.reply("join", joined(5, 5, { recovered: true }));
    await env.reopen({}, code);
    assert.equal(env.socket.last("resume").session, "s2");
    await env.reopen({}, code);
    assert.equal(env.socket.last("resume"), undefined, "a token is used once");
  });
}

test("messages before the answer to the join follow the gap", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { session: "s1" });
  const room = client.join("lobby");
  const log = [];
  room.on("chat", (content) => log.push(content));
  room.onJoin(({ gap }) => log.push(gap ? "back" : "in"));
  room.onGap(({ reason }) => log.push(reason));
  env.socket.reply("join");
  await env.reopen({ session: "s2" });
  env.socket.receive(message("chat", 1, { room: "lobby" })); // the session is already in the room
  env.socket.reply("resume", { rooms: ["lobby"] });
  env.socket.reply("join");
  env.socket.receive(message("chat", 2, { room: "lobby" }));
  assert.deepEqual(log, ["in", "back", "unknown", 1, 2]);
  await env.reopen({ session: "s3" });
  env.socket.reply("resume", { rooms: ["lobby"] });
  env.socket.reply("join");
  assert.deepEqual(log.slice(5), ["back", "unknown"]);
});

test("a failed attempt keeps the session", async (t) => {
  const { env } = await lobby(t, 5, { welcome: { session: "s1" } });
  env.socket.end(1006);
  await env.nextAttempt();
  env.socket.end(1006);
  await env.pass(1);
  await env.nextAttempt();
  env.socket.welcome();
  assert.equal(env.socket.last("resume").session, "s1");
});

test("no session is resumed after the client has stopped", async (t) => {
  const { env, client } = await lobby(t, 5, { welcome: { session: "s1" } });
  env.socket.end(4403);
  client.reconnect();
  await env.pass(1);
  env.socket.welcome();
  assert.equal(env.socket.last("resume"), undefined);
});

const requestsOf = ({ socket }) => socket.requests.map(({ type, room }) => room ? `${type} ${room}` : type);

test("rooms that were left meanwhile are left after the resume", async (t) => {
  const { env, client, room } = await lobby(t, 5, { welcome: { session: "s1" } });
  env.socket.end(1006);
  room.leave();
  client.join("hall").leave();
  client.join("kitchen").leave();
  await env.pass(1);
  client.join("kitchen");
  await env.nextAttempt();
  env.socket.welcome({ session: "s2" });
  assert.deepEqual(requestsOf(env), ["resume", "leave lobby", "leave hall", "join kitchen"]);
  await env.reopen({ session: "s3" });
  assert.deepEqual(requestsOf(env), ["resume", "leave lobby", "leave hall", "join kitchen"], "the leave was not answered");
});

test("a leave without an answer is repeated after the resume", async (t) => {
  const { env, room } = await lobby(t, 5, { welcome: { session: "s1" } });
  room.leave();
  await env.pass(1);
  assert.equal(env.socket.last("leave").room, "lobby");
  await env.reopen({ session: "s2" });
  assert.deepEqual(requestsOf(env), ["resume", "leave lobby"]);
  env.socket.reply("leave");
  await env.reopen({});
  assert.deepEqual(requestsOf(env), ["resume"]);
});

for (const [title, rooms, refusal, leaves] of [
  ["is a member leaves the room", ["hall", "lobby"], "limit", ["lobby"]],
  ["is no member leaves no room", ["hall"], "forbidden", []],
]) {
  for (const at of [5, undefined]) {
    const kind = at ? "with" : "without";
    test(`a refused join of a resumed session that ${title} ${kind} history`, async (t) => {
      const env = new TestEnv(t);
      const client = await env.open({}, undefined, { session: "s1" });
      const room = client.join("lobby", { state: 1 });
      const errors = [];
      room.onError(({ code }) => errors.push(code));
      env.socket.reply("join", at && joined(at));
      await env.reopen({ session: "s2" });
      env.socket.reply("resume", { rooms });
      assert.equal(room.joined, false, "the join decides");
      env.socket.refuse("join", refusal);
      const left = env.socket.requests.filter(({ type }) => type === "leave");
      assert.deepEqual(left.map(({ room }) => room), leaves);
      assert.deepEqual([errors, room.joined], [[refusal], false]);
    });
  }
}

test("after a session that was not resumed, a refused join leaves no room", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { session: "s1" });
  client.join("lobby").onError(() => {});
  env.socket.reply("join");
  await env.reopen({ session: "s2" });
  env.socket.reply("resume", { rooms: ["lobby"] });
  await env.reopen({ session: "s3" });
  env.socket.refuse("resume", "session");
  env.socket.refuse("join", "limit");
  assert.deepEqual(requestsOf(env), ["resume", "join lobby"]);
});

test("a resumed session that was removed from a room leaves it once", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { session: "s1" });
  const room = client.join("lobby");
  room.onError(() => {});
  env.socket.reply("join");
  await env.reopen({ session: "s2" });
  env.socket.reply("resume", { rooms: ["lobby"] });
  env.socket.receive({ message_type: "left", room: "lobby" });
  env.socket.refuse("join", "denied");
  assert.deepEqual(requestsOf(env), ["resume", "join lobby"]);
  client.join("lobby");
  env.socket.refuse("join", "denied");
  assert.deepEqual(requestsOf(env), ["resume", "join lobby", "join lobby"]);
});

test("without a session a room is not left again", async (t) => {
  const { env, room } = await lobby(t, 5);
  env.socket.end(1006);
  room.leave();
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(requestsOf(env), []);
});
