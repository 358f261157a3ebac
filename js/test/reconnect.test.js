// Whether to come back, and when.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { settled, World } from "./kit.js";

const protocol = readFileSync(new URL("../../docs/PROTOCOL.md", import.meta.url), "utf8");
const table = [...protocol.matchAll(/^\| (\d{4}) \| Close\w+ \|.*\| (comes back|stays away) \|$/gm)]
  .map(([, code, then]) => [Number(code), then === "comes back"]);
const ranges = [
  [1003, false], [1010, false], [1011, true], [1013, true], [1014, true], [1015, false],
  [2999, false], [3000, true], [4299, true], [4399, true], [4400, false], [4499, false],
  [4500, false], [4999, false],
];

test("the table of close codes was found", () => assert.equal(table.length, 16));

for (const [code, back] of [...table, ...ranges]) {
  test(`after ${code} the client ${back ? "comes back" : "stays away"}`, async (t) => {
    const world = new World(t);
    await world.open();
    world.socket.end(code, "because");
    const { state, willRetry, code: said, reason } = world.status;
    assert.deepEqual({ state, willRetry, said, reason },
      { state: back ? "waiting" : "closed", willRetry: back, said: code, reason: "because" });
    await world.pass(2_000);
    assert.equal(world.sockets.length, back ? 2 : 1);
  });
}

test("the waits are random, and double up to a limit", async (t) => {
  const world = new World(t);
  await world.open();
  const waits = [];
  world.socket.end(1011);
  for (let i = 0; i < 7; i++) {
    waits.push(await world.nextAttempt());
    world.socket.end(1006);
    await settled();
  }
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  world.random.mockImplementation(() => 0);
  await world.nextAttempt();
  world.socket.end(1006);
  await settled();
  assert.equal(world.status.retryIn, 0);
});

for (const [lasted, wait] of [[9_900, 2_000], [10_000, 500]]) {
  test(`a connection of ${lasted} ms makes the next wait ${wait} ms`, async (t) => {
    const world = new World(t);
    await world.open();
    world.socket.end(1011);
    await world.nextAttempt();
    world.socket.end(1006);
    await settled();
    await world.nextAttempt();
    world.socket.welcome();
    await world.pass(lasted);
    world.socket.end(1011);
    assert.equal(world.status.retryIn, wait);
  });
}

for (const [code, wait] of [
  [1001, 4_000], [1006, 4_000], [1012, 4_000], [1011, 500], [4300, 500],
]) {
  test(`the first attempt after ${code} is spread as the welcome says, or not`, async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    world.socket.welcome({ reconnect_ms: 8_000 });
    await settled();
    world.socket.end(code);
    assert.equal(world.status.retryIn, wait);
    await world.nextAttempt();
    world.socket.end(1006);
    await settled();
    assert.equal(world.status.retryIn, 1_000, "only the first");
  });
}

const date = (ms) => new Date(Date.now() + ms).toUTCString();

for (const [name, headers, want] of [
  ["a day", () => ({ "Retry-After": "86400" }), 3_600_000],
  ["for ever", () => ({ "Retry-After": "1e999" }), 3_600_000],
  ["a date", () => ({ "Retry-After": date(5_000) }), 5_000],
  ["tomorrow", () => ({ "Retry-After": date(86_400_000) }), 3_600_000],
  ["a date by another clock", () => ({ "Retry-After": date(86_405_000), Date: date(86_400_000) }), 5_000],
  ["yesterday", () => ({ "Retry-After": date(-86_400_000) }), 0],
  ["a negative number", () => ({ "Retry-After": "-5" }), 0],
  ["what is no time", () => ({ "Retry-After": "soon" }), 0],
]) {
  test(`the server may make a client wait, for an hour at most: ${name}`, async (t) => {
    const world = new World(t);
    world.answerFetch(503, {}, headers());
    world.connect();
    await settled();
    world.socket.end(1006);
    await settled();
    assert.equal(world.status.retryIn, want + 500);
  });
}

for (const [ms, want] of [[86_400_000, 1_800_000], ["1e999", 1_800_000], [-5, 500], ['"8"', 500]]) {
  test(`clients are not spread over more than an hour: ${ms}`, async (t) => {
    const world = new World(t);
    world.connect();
    await settled();
    world.socket.open();
    world.socket.receive(`{"message_type":"welcome","content":{"reconnect_ms":${ms}}}`);
    world.socket.end(1006);
    assert.equal(world.status.retryIn, want);
  });
}

for (const [status, headers, back] of [
  [400, {}, false], [401, {}, false], [403, {}, false], [404, {}, false], [405, {}, false],
  [200, {}, true], [426, {}, true], [429, {}, true], [431, {}, false], [500, {}, true],
  [502, {}, true], [503, {}, true], [403, { "Retry-After": "7" }, true],
]) {
  const after = headers["Retry-After"] ?? 0;
  test(`an upgrade that fails with ${status} and Retry-After ${after}`, async (t) => {
    const world = new World(t);
    world.answerFetch(status, { error: "no" }, headers);
    world.connect();
    await settled();
    world.socket.end(1006);
    await settled();
    const { state, willRetry, code, httpStatus } = world.status;
    assert.deepEqual({ state, willRetry, code, httpStatus },
      { state: back ? "waiting" : "closed", willRetry: back, code: 1006, httpStatus: status });
    if (back) assert.equal(world.status.retryIn, 1_000 * after + 500);
    if (status !== 426) assert.equal(world.status.reason, "no");
  });
}

for (const status of [400, 401, 403, 404, 405, 431]) {
  for (const [body, back] of [
    ["404 page not found", true], ["", true], ['{"message":"no"}', true], ['{"error":7}', true],
    ['{"status":404,"error":"Not Found","path":"/ws"}', true],
    ['{"error":"no"}', false],
  ]) {
    test(`where there was a connection, only the server's own ${status} is the end: ${body}`, async (t) => {
      const world = new World(t);
      world.fetch.mockImplementation(async () => new Response(body, { status }));
      const client = await world.open();
      for (let i = 0; i < 2; i++) {
        world.socket.end(1006);
        if (world.status.state === "waiting") await world.nextAttempt();
        await settled();
      }
      world.socket.end(1006);
      await settled();
      assert.equal(client.status.state, back ? "waiting" : "closed");
      assert.equal(client.status.httpStatus, status);
    });
  }
}

test("so it is for one that was told to reconnect, and never came in again", async (t) => {
  const world = new World(t);
  const client = await world.open();
  world.socket.end(4403);
  client.reconnect();
  await settled();
  world.answerFetch(404, "");
  world.socket.end(1006);
  await settled();
  assert.equal(client.status.state, "waiting");
});

test("what does not speak the protocol is no reason to stay away from a server that did", async (t) => {
  const world = new World(t);
  const client = await world.open();
  world.socket.end(1006);
  await world.nextAttempt();
  world.socket.open("");
  assert.equal(client.status.state, "waiting");
  await world.nextAttempt();
  world.socket.welcome();
  world.socket.end(1002);
  assert.equal(client.status.state, "closed", "what the server itself says counts");
});

test("a plain request asks for the reason", async (t) => {
  const world = new World(t);
  world.answerFetch(503, { error: "too many connections" }, { "Retry-After": "5" });
  world.connect({ token: "secret" });
  await settled();
  world.socket.end(1006);
  await settled();
  const [url, { cache, credentials, headers, signal }] = world.fetch.calls[0].arguments;
  assert.match(url, /^https:\/\/example\.com\/ws\?world=\d+$/);
  assert.deepEqual({ cache, credentials, headers },
    { cache: "no-store", credentials: "include", headers: { Authorization: "Bearer secret" } });
  assert.ok(signal instanceof AbortSignal);
  assert.equal(world.status.reason, "too many connections");
  assert.equal(world.status.retryIn, 5_500);
});

test("426 means that a proxy is in the way", async (t) => {
  const world = new World(t);
  world.answerFetch(426, { error: "this is a WebSocket endpoint" });
  world.connect();
  await settled();
  world.socket.end(1006);
  await settled();
  assert.match(world.status.reason, /answers, but no WebSocket opens: a proxy/);
});

test("an answer without a reason has a status at least", async (t) => {
  const world = new World(t);
  world.fetch.mockImplementation(async () => new Response("<h1>Bad gateway", { status: 502 }));
  world.connect();
  await settled();
  world.socket.end(1006);
  await settled();
  assert.equal(world.status.reason, "HTTP 502");
});

test("no answer means that the server cannot be reached", async (t) => {
  const world = new World(t);
  world.connect();
  await settled();
  world.socket.end(1006);
  await settled();
  const { state, reason, httpStatus } = world.status;
  assert.deepEqual({ state, httpStatus }, { state: "waiting", httpStatus: undefined });
  assert.match(reason, /cannot be reached/);
});

test("a ticket is not used twice to ask", async (t) => {
  const world = new World(t);
  let tickets = 0;
  world.connect({}, () => `wss://example.com/ws?ticket=${++tickets}`);
  await settled();
  world.socket.end(1006);
  await settled();
  assert.match(world.socket.url, /ticket=1$/);
  assert.match(world.fetch.calls[0].arguments[0], /ticket=2$/);
});

test("what a connection said itself is not asked for", async (t) => {
  const world = new World(t);
  await world.open();
  world.socket.end(1006);
  await world.nextAttempt();
  world.socket.open();
  world.socket.end(4403, "not you");
  await settled();
  assert.equal(world.fetch.callCount(), 0);
  assert.deepEqual([world.status.state, world.status.code], ["closed", 4403]);
});

test("an answer that comes too late changes nothing", async (t) => {
  const world = new World(t);
  let answer;
  world.fetch.mockImplementation(() => new Promise((resolve) => { answer = resolve; }));
  const client = world.connect();
  await settled();
  world.socket.end(1006);
  await settled();
  client.close();
  await world.pass(1);
  answer(Response.json({}, { status: 503 }));
  await settled();
  assert.equal(client.status.state, "closed");
});

test("a socket that fails without a close event has ended too", async (t) => {
  const world = new World(t);
  world.connect();
  await settled();
  world.socket.onerror({}); // as in Node 20
  await settled();
  const { state, code, reason } = world.status;
  assert.deepEqual({ state, code }, { state: "waiting", code: 1006 });
  assert.match(reason, /cannot be reached/);
});

test("an error of an open socket leaves the word to the close event", async (t) => {
  const world = new World(t);
  await world.open();
  world.socket.onerror({});
  assert.equal(world.status.state, "open");
  world.socket.end(1006);
  assert.equal(world.status.reason, "the connection was lost");
});

test("a server that says no welcome is given up", async (t) => {
  const world = new World(t);
  world.answerFetch(426);
  const client = world.connect();
  await settled();
  world.socket.open();
  await world.pass(9_750);
  assert.equal(client.status.state, "connecting");
  await world.pass(250);
  assert.equal(world.status.state, "waiting");
  assert.equal(world.sockets[0].closed, 1000);
});

test("after 4401 one attempt is made with a new token, at once", async (t) => {
  const world = new World(t);
  let tokens = 0;
  await world.open({ token: () => `t${++tokens}` });
  world.socket.end(4401, "identity expired");
  const { state, code, retryIn } = world.status;
  assert.deepEqual({ state, code, retryIn }, { state: "waiting", code: 4401, retryIn: 0 });
  await world.pass(1);
  assert.equal(world.socket.protocols[1], "bearer.t2");
  world.socket.welcome();
  await world.pass(1_000);
  world.socket.end(4401);
  assert.equal(world.status.state, "closed", "the new token was no better");
});

test("a token that was good for a while is renewed again", async (t) => {
  const world = new World(t);
  await world.open({ token: () => "t" });
  for (let i = 0; i < 3; i++) {
    await world.pass(10_000);
    world.socket.end(4401);
    await world.pass(1);
    world.socket.welcome();
  }
  assert.equal(world.status.state, "open");
});

test("without a source of tokens 4401 is the end", async (t) => {
  const world = new World(t);
  await world.open({ token: "t" });
  world.socket.end(4401);
  assert.equal(world.status.state, "closed");
});

test("reconnect tries now, and also after the end", async (t) => {
  const world = new World(t);
  const client = await world.open();
  client.reconnect();
  await settled();
  assert.equal(world.sockets.length, 1, "it is open");
  assert.equal(world.socket.pings, 1, "and asked for a sign of life");
  world.socket.receive("pong");
  for (const code of [1011, 4403]) {
    world.socket.end(code);
    client.reconnect();
    client.reconnect();
    await settled();
    world.socket.welcome();
  }
  await world.pass(10_000);
  assert.equal(world.sockets.length, 3);
  assert.equal(client.status.state, "open");
});

for (const [name, reach] of [
  ["a socket that does not open", () => {}],
  ["a server that says no welcome", ({ socket }) => socket.open()],
  ["a request for the reason", ({ socket, fetch }) => {
    fetch.mockImplementation(() => new Promise(() => {}));
    socket.end(1006);
  }],
]) {
  test(`reconnect begins an attempt anew that is at: ${name}`, async (t) => {
    const world = new World(t);
    const client = world.connect();
    await settled();
    reach(world);
    await settled();
    assert.equal(client.status.state, "connecting");
    const [old] = world.sockets;
    client.reconnect();
    await settled();
    assert.equal(world.sockets.length, 2);
    assert.equal(old.onmessage, null, "the old one is let go of");
    world.socket.welcome();
    await world.pass(20_000);
    assert.deepEqual([client.status.state, world.sockets.length], ["open", 2]);
  });
}

for (const [name, end] of [
  ["a close code", (world) => world.socket.end(4403)],
  ["a refusal", async (world) => {
    world.answerFetch(403, { error: "no" });
    world.socket.end(1006);
    await world.nextAttempt();
    world.socket.end(1006);
    await settled();
  }],
  ["an error of the application", async (world) => {
    world.broken = new RealtimeError("logged_out");
    world.socket.end(1006);
    await world.nextAttempt();
    world.broken = undefined;
  }],
]) {
  test(`reconnect revives a client that was ended by: ${name}`, async (t) => {
    const world = new World(t);
    const client = await world.open({
      token: () => {
        if (world.broken) throw world.broken;
        return "t";
      },
    });
    const room = client.join("lobby");
    world.socket.reply("join");
    await end(world);
    assert.equal(client.status.state, "closed");
    const before = world.sockets.length;
    client.reconnect();
    const sent = client.all.send("chat", 1);
    await settled();
    world.socket.welcome();
    assert.deepEqual(world.socket.requests.map(({ type }) => type), ["join", "send"]);
    world.socket.reply("join");
    world.socket.reply("send");
    await sent;
    assert.deepEqual([room.joined, world.sockets.length], [true, before + 1]);
  });
}

test("a handler may reconnect, and all handlers are told in order", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const off = client.onStatus(({ state }) => state === "closed" && client.reconnect());
  const states = [];
  client.onStatus(({ state }) => states.push(state));
  world.socket.end(4403);
  await settled();
  assert.deepEqual(states, ["closed", "connecting"]);
  world.socket.welcome();
  assert.deepEqual(states, ["closed", "connecting", "open"]);
  assert.equal(client.status.state, "open");
  off();
});

test("a handler that reconnects while the server says welcome asks for a sign of life", async (t) => {
  const world = new World(t);
  const client = await world.open();
  client.onGap(() => client.reconnect());
  await world.comeBack();
  assert.deepEqual([client.status.state, world.sockets.length, world.socket.pings], ["open", 2, 1]);
});
