// When the client reconnects, and when it stops.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { settled, TestEnv } from "./helpers.js";

const protocol = readFileSync(new URL("../../docs/PROTOCOL.md", import.meta.url), "utf8");
const table = [...protocol.matchAll(/^\| (\d{4}) \| Close\w+ \|.*\| (reconnects|does not reconnect) \|$/gm)]
  .map(([, code, then]) => [Number(code), then === "reconnects"]);
const ranges = [
  [1003, false], [1010, false], [1011, true], [1013, true], [1014, true], [1015, false],
  [2999, false], [3000, true], [4299, true], [4399, true], [4400, false], [4499, false],
  [4500, false], [4999, false],
];

test("the table of close codes was found", () => assert.equal(table.length, 17));

for (const [code, back] of [...table, ...ranges]) {
  test(`after ${code} the client ${back ? "reconnects" : "stops"}`, async (t) => {
    const env = new TestEnv(t);
    await env.open();
    env.socket.end(code, "because");
    const { state, willRetry, code: said, reason } = env.status;
    assert.deepEqual({ state, willRetry, said, reason },
      { state: back ? "waiting" : "closed", willRetry: back, said: code, reason: "because" });
    await env.pass(2_000);
    assert.equal(env.sockets.length, back ? 2 : 1);
  });
}

test("waits are random, below a limit that doubles", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  const waits = [];
  env.socket.end(1011);
  for (let i = 0; i < 7; i++) {
    waits.push(await env.nextAttempt());
    env.socket.end(1006);
    await settled();
  }
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  env.random.mockImplementation(() => 0);
  await env.nextAttempt();
  env.socket.end(1006);
  await settled();
  assert.equal(env.status.retryIn, 0);
});

for (const [lasted, wait] of [[9_900, 2_000], [10_000, 500]]) {
  test(`after a connection of ${lasted} ms the next wait is ${wait} ms`, async (t) => {
    const env = new TestEnv(t);
    await env.open();
    env.socket.end(1011);
    await env.nextAttempt();
    env.socket.end(1006);
    await settled();
    await env.nextAttempt();
    env.socket.welcome();
    await env.pass(lasted);
    env.socket.end(1011);
    assert.equal(env.status.retryIn, wait);
  });
}

for (const [code, wait] of [
  [1001, 4_000], [1006, 4_000], [1012, 4_000], [1011, 500], [4300, 500],
]) {
  test(`the first wait after ${code} depends on reconnect_ms, or not`, async (t) => {
    const env = new TestEnv(t);
    env.connect();
    await settled();
    env.socket.welcome({ reconnect_ms: 8_000 });
    await settled();
    env.socket.end(code);
    assert.equal(env.status.retryIn, wait);
    await env.nextAttempt();
    env.socket.end(1006);
    await settled();
    assert.equal(env.status.retryIn, 1_000, "only the first wait");
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
  test(`Retry-After extends the wait, up to an hour: ${name}`, async (t) => {
    const env = new TestEnv(t);
    env.answerFetch(503, {}, headers());
    env.connect();
    await settled();
    env.socket.end(1006);
    await settled();
    assert.equal(env.status.retryIn, want + 500);
  });
}

for (const [ms, want] of [[86_400_000, 1_800_000], ["1e999", 1_800_000], [-5, 500], ['"8"', 500]]) {
  test(`reconnect_ms counts up to an hour: ${ms}`, async (t) => {
    const env = new TestEnv(t);
    env.connect();
    await settled();
    env.socket.open();
    env.socket.receive(`{"message_type":"welcome","content":{"reconnect_ms":${ms}}}`);
    env.socket.end(1006);
    assert.equal(env.status.retryIn, want);
  });
}

for (const [status, headers, back] of [
  [400, {}, false], [401, {}, false], [403, {}, false], [404, {}, false], [405, {}, false],
  [200, {}, true], [426, {}, true], [429, {}, true], [431, {}, false], [500, {}, true],
  [502, {}, true], [503, {}, true], [403, { "Retry-After": "7" }, true],
]) {
  const after = headers["Retry-After"] ?? 0;
  test(`a failed upgrade with ${status} and Retry-After ${after}`, async (t) => {
    const env = new TestEnv(t);
    env.answerFetch(status, { error: "no" }, headers);
    env.connect();
    await settled();
    env.socket.end(1006);
    await settled();
    const { state, willRetry, code, httpStatus } = env.status;
    assert.deepEqual({ state, willRetry, code, httpStatus },
      { state: back ? "waiting" : "closed", willRetry: back, code: 1006, httpStatus: status });
    if (back) assert.equal(env.status.retryIn, 1_000 * after + 500);
    if (status !== 426) assert.equal(env.status.reason, "no");
  });
}

for (const status of [400, 401, 403, 404, 405, 431]) {
  for (const [body, back] of [
    ["404 page not found", true], ["", true], ['{"message":"no"}', true], ['{"error":7}', true],
    ['{"status":404,"error":"Not Found","path":"/ws"}', true],
    ['{"error":"no"}', false],
  ]) {
    test(`after a connection only ${status} in the form of the server's errors stops the client: ${body}`, async (t) => {
      const env = new TestEnv(t);
      env.fetch.mockImplementation(async () => new Response(body, { status }));
      const client = await env.open();
      for (let i = 0; i < 2; i++) {
        env.socket.end(1006);
        if (env.status.state === "waiting") await env.nextAttempt();
        await settled();
      }
      env.socket.end(1006);
      await settled();
      assert.equal(client.status.state, back ? "waiting" : "closed");
      assert.equal(client.status.httpStatus, status);
    });
  }
}

test("the same applies to a client that was told to reconnect and could not", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.end(4403);
  client.reconnect();
  await settled();
  env.answerFetch(404, "");
  env.socket.end(1006);
  await settled();
  assert.equal(client.status.state, "waiting");
});

test("a server without the protocol does not stop a client that has had a connection", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.end(1006);
  await env.nextAttempt();
  env.socket.open("");
  assert.equal(client.status.state, "waiting");
  await env.nextAttempt();
  env.socket.welcome();
  env.socket.end(1002);
  assert.equal(client.status.state, "closed", "a close code of the server stops the client");
});

test("a plain request gets the reason of a failed upgrade", async (t) => {
  const env = new TestEnv(t);
  env.answerFetch(503, { error: "too many connections" }, { "Retry-After": "5" });
  env.connect({ token: "secret" });
  await settled();
  env.socket.end(1006);
  await settled();
  const [url, { cache, credentials, headers, signal }] = env.fetch.calls[0].arguments;
  assert.match(url, /^https:\/\/example\.com\/ws\?env=\d+$/);
  assert.deepEqual({ cache, credentials, headers },
    { cache: "no-store", credentials: "include", headers: { Authorization: "Bearer secret" } });
  assert.ok(signal instanceof AbortSignal);
  assert.equal(env.status.reason, "too many connections");
  assert.equal(env.status.retryIn, 5_500);
});

test("426 means that a proxy blocks the WebSocket", async (t) => {
  const env = new TestEnv(t);
  env.answerFetch(426, { error: "this is a WebSocket endpoint" });
  env.connect();
  await settled();
  env.socket.end(1006);
  await settled();
  assert.match(env.status.reason, /answers, but no WebSocket opens: a proxy/);
});

test("the reason is the status if the response has none", async (t) => {
  const env = new TestEnv(t);
  env.fetch.mockImplementation(async () => new Response("<h1>Bad gateway", { status: 502 }));
  env.connect();
  await settled();
  env.socket.end(1006);
  await settled();
  assert.equal(env.status.reason, "HTTP 502");
});

test("the reason is that the server cannot be reached if there is no response", async (t) => {
  const env = new TestEnv(t);
  env.connect();
  await settled();
  env.socket.end(1006);
  await settled();
  const { state, reason, httpStatus } = env.status;
  assert.deepEqual({ state, httpStatus }, { state: "waiting", httpStatus: undefined });
  assert.match(reason, /cannot be reached/);
});

test("the plain request uses a new ticket", async (t) => {
  const env = new TestEnv(t);
  let tickets = 0;
  env.connect({}, () => `wss://example.com/ws?ticket=${++tickets}`);
  await settled();
  env.socket.end(1006);
  await settled();
  assert.match(env.socket.url, /ticket=1$/);
  assert.match(env.fetch.calls[0].arguments[0], /ticket=2$/);
});

test("no plain request follows a close code of the server", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  env.socket.end(1006);
  await env.nextAttempt();
  env.socket.open();
  env.socket.end(4403, "not you");
  await settled();
  assert.equal(env.fetch.callCount(), 0);
  assert.deepEqual([env.status.state, env.status.code], ["closed", 4403]);
});

test("a late response to the plain request is ignored", async (t) => {
  const env = new TestEnv(t);
  let answer;
  env.fetch.mockImplementation(() => new Promise((resolve) => { answer = resolve; }));
  const client = env.connect();
  await settled();
  env.socket.end(1006);
  await settled();
  client.close();
  await env.pass(1);
  answer(Response.json({}, { status: 503 }));
  await settled();
  assert.equal(client.status.state, "closed");
});

test("an error event without a close event ends the connection", async (t) => {
  const env = new TestEnv(t);
  env.connect();
  await settled();
  env.socket.onerror({}); // as in Node 20
  await settled();
  const { state, code, reason } = env.status;
  assert.deepEqual({ state, code }, { state: "waiting", code: 1006 });
  assert.match(reason, /cannot be reached/);
});

test("after an error event of an open socket the close event decides", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  env.socket.onerror({});
  assert.equal(env.status.state, "open");
  env.socket.end(1006);
  assert.equal(env.status.reason, "the connection was lost");
});

test("an attempt without a welcome ends after 10 s", async (t) => {
  const env = new TestEnv(t);
  env.answerFetch(426);
  const client = env.connect();
  await settled();
  env.socket.open();
  await env.pass(9_750);
  assert.equal(client.status.state, "connecting");
  await env.pass(250);
  assert.equal(env.status.state, "waiting");
  assert.equal(env.sockets[0].closed, 1000);
});

test("one attempt with a new token follows at once after 4401", async (t) => {
  const env = new TestEnv(t);
  let tokens = 0;
  await env.open({ token: () => `t${++tokens}` });
  env.socket.end(4401, "identity expired");
  const { state, code, retryIn } = env.status;
  assert.deepEqual({ state, code, retryIn }, { state: "waiting", code: 4401, retryIn: 0 });
  await env.pass(1);
  assert.equal(env.socket.protocols[1], "bearer.t2");
  env.socket.welcome();
  await env.pass(1_000);
  env.socket.end(4401);
  assert.equal(env.status.state, "closed", "the new token expired at once");
});

test("another attempt follows after 4401 if the connection was stable", async (t) => {
  const env = new TestEnv(t);
  await env.open({ token: () => "t" });
  for (let i = 0; i < 3; i++) {
    await env.pass(10_000);
    env.socket.end(4401);
    await env.pass(1);
    env.socket.welcome();
  }
  assert.equal(env.status.state, "open");
});

test("the client stops after 4401 if it cannot get a new token", async (t) => {
  const env = new TestEnv(t);
  await env.open({ token: "t" });
  env.socket.end(4401);
  assert.equal(env.status.state, "closed");
});

test("reconnect starts an attempt now, also after the client has stopped", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.reconnect();
  await settled();
  assert.equal(env.sockets.length, 1, "the connection is kept");
  assert.equal(env.socket.pings, 1, "a ping was sent");
  env.socket.receive("pong");
  for (const code of [1011, 4403]) {
    env.socket.end(code);
    client.reconnect();
    client.reconnect();
    await settled();
    env.socket.welcome();
  }
  await env.pass(10_000);
  assert.equal(env.sockets.length, 3);
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
  test(`reconnect restarts an attempt in progress: ${name}`, async (t) => {
    const env = new TestEnv(t);
    const client = env.connect();
    await settled();
    reach(env);
    await settled();
    assert.equal(client.status.state, "connecting");
    const [old] = env.sockets;
    client.reconnect();
    await settled();
    assert.equal(env.sockets.length, 2);
    assert.equal(old.onmessage, null, "the old socket has no handlers any more");
    env.socket.welcome();
    await env.pass(20_000);
    assert.deepEqual([client.status.state, env.sockets.length], ["open", 2]);
  });
}

for (const [name, end] of [
  ["a close code", (env) => env.socket.end(4403)],
  ["a refusal", async (env) => {
    env.answerFetch(403, { error: "no" });
    env.socket.end(1006);
    await env.nextAttempt();
    env.socket.end(1006);
    await settled();
  }],
  ["an error of the application", async (env) => {
    env.broken = new RealtimeError("logged_out");
    env.socket.end(1006);
    await env.nextAttempt();
    env.broken = undefined;
  }],
]) {
  test(`reconnect restarts a client that stopped because of: ${name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open({
      token: () => {
        if (env.broken) throw env.broken;
        return "t";
      },
    });
    const room = client.join("lobby");
    env.socket.reply("join");
    await end(env);
    assert.equal(client.status.state, "closed");
    const before = env.sockets.length;
    client.reconnect();
    const sent = client.all.send("chat", 1);
    await settled();
    env.socket.welcome();
    assert.deepEqual(env.socket.requests.map(({ type }) => type), ["join", "send"]);
    env.socket.reply("join");
    env.socket.reply("send");
    await sent;
    assert.deepEqual([room.joined, env.sockets.length], [true, before + 1]);
  });
}

test("a status handler may call reconnect, and all handlers receive the states in order", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const off = client.onStatus(({ state }) => state === "closed" && client.reconnect());
  const states = [];
  client.onStatus(({ state }) => states.push(state));
  env.socket.end(4403);
  await settled();
  assert.deepEqual(states, ["closed", "connecting"]);
  env.socket.welcome();
  assert.deepEqual(states, ["closed", "connecting", "open"]);
  assert.equal(client.status.state, "open");
  off();
});

test("reconnect in a handler of the open state sends a ping", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.onGap(() => client.reconnect());
  await env.reopen();
  assert.deepEqual([client.status.state, env.sockets.length, env.socket.pings], ["open", 2, 1]);
});
