// Calls of the server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { expired, settled, World } from "./kit.js";

const call = (id, method, content) => ({ message_type: "call", id, method, content });

test("calls are answered in any order", async (t) => {
  const world = new World(t);
  const client = await world.open();
  let finish;
  client.handle("slow", () => new Promise((resolve) => { finish = resolve; }));
  client.handle("double", (n) => 2 * n);
  world.socket.receive(call(1, "slow"));
  world.socket.receive(call(2, "double", 21));
  await settled();
  finish("done");
  await settled();
  assert.deepEqual(world.socket.requests, [
    { type: "reply", id: 2, content: 42 }, { type: "reply", id: 1, content: "done" },
  ]);
});

test("a method that there is not is unknown", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const off = client.handle("known", () => 1);
  client.handle("known", () => 2);
  off(); // it is not the one any more
  world.socket.receive(call(1, "known"));
  world.socket.receive(call(2, "toString"));
  await settled();
  const [known, unknown] = world.socket.requests.toSorted((a, b) => a.id - b.id);
  assert.equal(known.content, 2);
  assert.deepEqual([unknown.type, unknown.id], ["error", 2]);
  assert.equal(unknown.content.code, "unknown_method");
});

test("what a method throws is the answer if it is meant to be, and else not told", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const { mock } = t.mock.method(console, "error", () => {});
  client.handle("busy", () => { throw new RealtimeError("busy", "not now"); });
  client.handle("broken", async () => { throw new Error("the password is 1234"); });
  client.handle("no JSON", () => 1n);
  for (const [i, method] of ["busy", "broken", "no JSON"].entries()) {
    world.socket.receive(call(i, method));
    await settled();
  }
  const internal = { code: "internal", message: "internal error" };
  assert.deepEqual(world.socket.requests.map(({ content }) => content),
    [{ code: "busy", message: "not now" }, internal, internal]);
  assert.equal(mock.calls[0].arguments[0].message, "the password is 1234");
});

test("an answer that is too large is an error", async (t) => {
  const world = new World(t);
  const client = world.connect();
  await settled();
  world.socket.welcome({ max_message_bytes: 1_000 });
  client.handle("all", () => "x".repeat(1_000));
  world.socket.receive(call(1, "all"));
  await settled();
  assert.equal(world.socket.requests[0].content.code, "too_large");
});

test("a call of an old connection is not answered on a new one", async (t) => {
  const world = new World(t);
  const client = await world.open();
  let finish;
  client.handle("slow", () => new Promise((resolve) => { finish = resolve; }));
  world.socket.receive(call(1, "slow"));
  await world.comeBack();
  finish("done");
  await settled();
  assert.deepEqual(world.sockets.map(({ requests }) => requests), [[], []]);
});

test("a token is renewed when the server asks for it", async (t) => {
  const world = new World(t);
  let tokens = 0;
  await world.open({ token: async () => `t${++tokens}` });
  world.socket.receive(expired);
  await settled();
  assert.equal(world.socket.last("refresh").token, "t2");
  world.socket.refuse("refresh", "forbidden");
  await settled();
  assert.equal(world.status.state, "open", "it is the server that ends it");
});

test("a token that cannot be renewed is left to expire", async (t) => {
  const world = new World(t);
  let broken = false;
  await world.open({ token: () => { if (broken) throw new Error("offline"); return "t"; } });
  broken = true;
  world.socket.receive(expired);
  await settled();
  assert.deepEqual(world.socket.requests, []);
});

test("100 calls are answered at a time, over one connection", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const finish = [];
  client.handle("slow", () => new Promise((resolve) => finish.push(resolve)));
  for (let i = 0; i < 101; i++) world.socket.receive(call(i, "slow"));
  await settled();
  const [{ id, content }, ...more] = world.socket.requests;
  assert.deepEqual([id, content.code, more], [100, "busy", []]);
  finish[7]();
  await settled();
  world.socket.receive(call(101, "slow"));
  await settled();
  assert.equal(finish.length, 101, "there is room again");
  await world.comeBack();
  world.socket.receive(call(1, "slow"));
  await settled();
  assert.deepEqual([finish.length, world.socket.requests], [102, []], "those of before do not count");
});

test("a newer token is asked for once at a time", async (t) => {
  const world = new World(t);
  let calls = 0;
  let give;
  await world.open({ token: () => ++calls === 2 ? new Promise((resolve) => { give = resolve; }) : "t" });
  for (let i = 0; i < 3; i++) world.socket.receive(expired);
  await settled();
  assert.equal(calls, 2);
  give("t2");
  await settled();
  assert.deepEqual(world.socket.requests.map(({ type, token }) => [type, token]), [["refresh", "t2"]]);
  world.socket.receive(expired);
  await settled();
  assert.equal(calls, 3);
});

test("a newer token that hangs does not keep the next connection from asking", async (t) => {
  const world = new World(t);
  let calls = 0;
  await world.open({ token: () => ++calls === 2 ? new Promise(() => {}) : "t" });
  world.socket.receive(expired);
  world.socket.end(4401);
  await world.nextAttempt();
  world.socket.welcome();
  world.socket.receive(expired);
  await settled();
  assert.equal(calls, 4);
  assert.equal(world.socket.last("refresh").token, "t");
});

test("a newer token that hangs is given up after 30 s, and ignored when it comes", async (t) => {
  const world = new World(t);
  let calls = 0;
  let give;
  await world.open({ token: () => ++calls === 2 ? new Promise((resolve) => { give = resolve; }) : `t${calls}` });
  world.socket.receive(expired);
  await world.pass(20_000);
  world.socket.receive(expired);
  await world.pass(10_000);
  assert.equal(calls, 2);
  world.socket.receive(expired);
  await settled();
  assert.equal(world.socket.last("refresh")?.token, "t3");
  give("t2");
  await settled();
  assert.equal(world.socket.requests.length, 1);
});

test("a newer token that comes after 30 s is ignored", async (t) => {
  const world = new World(t);
  let calls = 0;
  let give;
  await world.open({ token: () => ++calls === 2 ? new Promise((resolve) => { give = resolve; }) : "t" });
  world.socket.receive(expired);
  await world.pass(20_000);
  world.socket.receive({ message_type: "chat", content: "hi" });
  await world.pass(10_000);
  give("t2");
  await settled();
  assert.deepEqual(world.socket.requests, []);
});
