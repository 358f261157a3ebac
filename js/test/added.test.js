// Rooms to which the server's application adds the client. They recover like rooms that the client
// joins, but the client does not join them by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, settled, TestEnv } from "./helpers.js";
import { frame, joined, kept, receive, since, take } from "./lobby.js";

const added = (content) => ({ message_type: "joined", room: "lobby", content });
const left = { message_type: "left", room: "lobby" };
const inbox = { epoch: "i1", offset: 0, top: 0 };

/** Returns a client that the application has added to the lobby, and the log of its events. */
async function addedClient(t, content = joined(5)) {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { inbox });
  const log = [];
  client.on("chat", (content) => log.push(content));
  client.onGap(({ room, reason, from, to }) => {
    log.push(`${room} ${reason} ${from?.offset}-${to?.offset}`);
  });
  receive(env, added(content));
  return { env, client, log };
}

/** Returns the requests of the connection, without IDs. */
const requests = ({ socket }) => socket.requests.map(({ id, ...request }) => request);

const recover = (offset) => ({ type: "recover", room: "lobby", since: since(offset) });

test("missed messages are recovered when the client is added again", async (t) => {
  const { env, log } = await addedClient(t);
  receive(env, kept(7, 5));
  for (const at of [7, 10]) {
    await env.reopen({ inbox });
    assert.deepEqual(requests(env), [], "the client does not join by itself");
    receive(env, added(joined(at + 2)), kept(at + 3, at + 2)); // sent again below
    assert.deepEqual(requests(env), [recover(at)]);
    env.socket.reply("recover", joined(at, at + 3, { recovered: true }));
    receive(env, kept(at + 1, at), kept(at + 2, at + 1), kept(at + 3, at + 2));
  }
  assert.deepEqual(take(log), [7, 8, 9, 10, 11, 12, 13]);
});

test("nothing is requested if the server sends all missed messages anyway", async (t) => {
  const { env, log } = await addedClient(t);
  receive(env, kept(7, 5));
  await env.reopen({ inbox });
  receive(env, added(joined(5, 9)), kept(7, 5), kept(8, 7), kept(9, 8));
  await env.reopen({ inbox });
  receive(env, added(joined(9)), kept(10, 9));
  assert.deepEqual(requests(env), []);
  assert.deepEqual(take(log), [7, 8, 9, 10]);
});

test("a gap is reported if the room has never had the client's position", async (t) => {
  const { env, log } = await addedClient(t, joined(50));
  await env.reopen({ inbox });
  receive(env, added(joined(20)));
  env.socket.reply("recover", joined(20, 20, { recovered: false, reason: "ahead" }));
  receive(env, kept(21, 20));
  assert.deepEqual(take(log), ["lobby ahead 50-20", 21]);
});

test("presence and values are requested even if no message is missing", async (t) => {
  for (const watches of [true, false]) {
    const { env, client, log } = await addedClient(t);
    if (watches) {
      client.join("lobby", { presence: true }).onError(() => {});
      env.socket.refuse("join", "forbidden");
    } else {
      receive(env, { message_type: "latest", room: "lobby", ver: 9 });
    }
    await env.reopen({ inbox });
    receive(env, added(joined(5)));
    assert.deepEqual(requests(env), [{ ...recover(5), ...watches ? { presence: true } : { latest: 9 } }]);
    env.socket.reply("recover", joined(5, 5, { recovered: true }));
    receive(env, kept(6, 5));
    assert.deepEqual(take(log), [6]);
    t.mock.reset();
  }
});

test("the client does not join again if it is not added again", async (t) => {
  const { env, log } = await addedClient(t);
  await env.reopen({ inbox });
  await env.reopen({ inbox });
  await env.pass(20_000);
  assert.deepEqual(requests(env), []);
  receive(env, added(joined(9)));
  assert.deepEqual(requests(env), [recover(5)]);
  assert.deepEqual(take(log), []);
});

test("missing messages are requested", async (t) => {
  const { env, log } = await addedClient(t);
  receive(env, kept(7, 6));
  assert.deepEqual(requests(env), [recover(5)]);
  env.socket.reply("recover", joined(5, 7, { recovered: true }));
  receive(env, kept(6, 5), kept(7, 6), frame("position", { offset: 9 }), kept(10, 9));
  assert.deepEqual(take(log), [6, 7, 10]);
});

test("a gap is reported if the server cannot recover", async (t) => {
  const { env, log } = await addedClient(t);
  receive(env, kept(7, 6));
  env.socket.refuse("recover", "internal");
  receive(env, kept(8, 7));
  assert.deepEqual(take(log), ["lobby unknown 5-undefined", 8]);
});

test("the position is kept after the membership has ended with the session", async (t) => {
  const { env, log } = await addedClient(t);
  receive(env, kept(7, 6));
  env.socket.refuse("recover", "no_member");
  receive(env, added(joined(9)));
  env.socket.reply("recover", joined(5, 9, { recovered: true }));
  receive(env, kept(9, 5));
  assert.deepEqual(take(log), [9]);
});

test("a removed client starts again, whatever late answers contain", async (t) => {
  const { env, log } = await addedClient(t);
  receive(env, kept(7, 6), left, added(joined(20)));
  env.socket.refuse("recover", "no_member");
  receive(env, kept(21, 20));
  assert.deepEqual(requests(env), [recover(5)]);
  assert.deepEqual(take(log), [21]);
});

test("a gap is reported for a room that keeps nothing", async (t) => {
  const { env, log } = await addedClient(t, null);
  receive(env, message("chat", "one", { room: "lobby" }));
  await env.reopen({ inbox });
  receive(env, added(undefined), message("chat", "two", { room: "lobby" }));
  assert.deepEqual(requests(env), []);
  assert.deepEqual(take(log), ["one", "lobby unknown undefined-undefined", "two"]);
});

test("a room that the client also joins is joined again until the client leaves it", async (t) => {
  const { env, client, log } = await addedClient(t);
  receive(env, kept(6, 5));
  const room = client.join("lobby");
  room.onJoin(({ first, gap, recovered }) => log.push({ first, gap, recovered }));
  assert.deepEqual(requests(env), [{ type: "join", room: "lobby", since: since(6) }]);
  env.socket.reply("join", joined(6, 6, { recovered: true }));
  receive(env, kept(7, 6));
  assert.deepEqual(take(log), [6, { first: true, gap: false, recovered: 0 }, 7]);
  await env.reopen({ inbox });
  receive(env, added(joined(8)));
  assert.deepEqual(requests(env), [{ type: "join", room: "lobby", since: since(7) }]);
  env.socket.reply("join", joined(7, 8, { recovered: true }));
  receive(env, kept(8, 7));
  assert.deepEqual(take(log), [8, { first: false, gap: false, recovered: 1 }]);
  room.leave();
  await env.pass(1);
  assert.equal(env.socket.requests.at(-1).type, "leave");
  await env.reopen({ inbox });
  assert.deepEqual(requests(env), []);
});

test("a join with history receives the earlier messages first", async (t) => {
  const { env, client, log } = await addedClient(t);
  receive(env, kept(6, 5));
  client.join("lobby", { history: 50 });
  assert.deepEqual(requests(env), [{ type: "join", room: "lobby", history: 50 }]);
  env.socket.reply("join", joined(4, 6));
  receive(env, kept(5, 4), kept(6, 5), kept(7, 6));
  assert.deepEqual(take(log), [6, 5, 6, 7]);
});

test("a refused join with history continues at the newest message", async (t) => {
  const { env, client, log } = await addedClient(t);
  client.join("lobby", { history: 50 }).onError(({ code }) => log.push(code));
  env.socket.refuse("join", "forbidden");
  assert.equal(requests(env).length, 2);
  assert.equal(requests(env)[1].type, "recover");
  env.socket.reply("recover", joined(5));
  receive(env, kept(8, 7));
  assert.deepEqual(requests(env)[2], recover(5), "the client has a position");
  assert.deepEqual(take(log), ["forbidden"]);
});

test("a refused join does not end the membership of an added client", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { inbox });
  const log = [];
  const room = client.join("lobby");
  room.on("chat", (content) => log.push(content));
  room.onError(({ code }) => log.push(code));
  receive(env, added(joined(5)));
  env.socket.refuse("join", "forbidden");
  receive(env, kept(6, 5));
  assert.equal(room.joined, true);
  assert.deepEqual(take(log), ["forbidden", 6]);
  await env.reopen({ inbox });
  receive(env, added(joined(7)));
  assert.deepEqual(requests(env), [recover(6)]);
  env.socket.reply("recover", joined(6, 7, { recovered: true }));
  receive(env, kept(7, 6));
  room.leave();
  await env.pass(1);
  receive(env, kept(9, 8));
  assert.deepEqual(requests(env), [recover(6), recover(7)], "the client sends no leave");
  assert.deepEqual(take(log), [7]);
});

for (const [title, options, frames, from, want] of [
  ["a gap", {}, [kept(7, 6)], 5, [6, 7]],
  ["a message during a join with history", { history: 2 }, [kept(6, 5)], 5, [6]],
  ["a message after a reconnect", { history: 2 }, [kept(8, 7), kept(9, 8)], 7, [8, 9]],
]) {
  test(`the client continues after the addition if its join is refused: ${title}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open({}, undefined, { inbox });
    const log = [];
    const room = client.join("lobby", options);
    room.on("chat", (content) => log.push(content));
    room.onError(({ code }) => log.push(code));
    if (from === 7) {
      env.socket.reply("join", joined(7));
      await env.reopen({ inbox });
    }
    const last = frames.at(-1).offset;
    receive(env, added(joined(from, last)), ...frames, frame("position", { offset: last }));
    env.socket.refuse("join", "forbidden");
    assert.deepEqual(requests(env).slice(1), [recover(from)]);
    env.socket.reply("recover", joined(from, last, { recovered: true }));
    for (let i = from; i < last; i++) receive(env, kept(i + 1, i));
    assert.deepEqual(take(log), ["forbidden", ...want]);
  });
}

for (const [options, offset] of [[{}, 8], [{ history: 2 }, 6]]) {
  test(`the client continues after the addition if its join begins at ${offset}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open({}, undefined, { inbox });
    const log = [];
    client.join("lobby", options).on("chat", (content) => log.push(content));
    receive(env, added(joined(5)), kept(6, 5), kept(7, 6), kept(8, 7));
    env.socket.reply("join", joined(offset, 8));
    assert.deepEqual(requests(env).slice(1), [{ type: "join", room: "lobby", since: since(5) }]);
    env.socket.reply("join", joined(5, 8, { recovered: true }));
    receive(env, kept(6, 5), kept(7, 6), kept(8, 7), kept(9, 8));
    assert.deepEqual(take(log), [6, 7, 8, 9]);
  });
}

test("the client continues after the addition if its join is not answered", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { inbox });
  const log = [];
  client.join("lobby").on("chat", (content) => log.push(content));
  receive(env, added(joined(5)), kept(6, 5));
  await env.reopen({ inbox });
  assert.deepEqual(requests(env), [{ type: "join", room: "lobby", since: since(5) }]);
  env.socket.reply("join", joined(5, 6, { recovered: true }));
  receive(env, kept(6, 5));
  assert.deepEqual(take(log), [6]);
});

test("the room continues if the client is added but its own join is refused", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { inbox });
  const log = [];
  const room = client.join("lobby");
  room.on("chat", (content) => log.push(content));
  room.onError(({ code }) => log.push(code));
  env.socket.reply("join", joined(5));
  await env.reopen({ inbox });
  receive(env, added(joined(7)));
  env.socket.refuse("join", "forbidden");
  assert.deepEqual(requests(env).slice(1), [recover(5)]);
  env.socket.reply("recover", joined(5, 7, { recovered: true }));
  receive(env, kept(7, 5));
  assert.deepEqual(take(log), ["forbidden", 7]);
});

test("closing a client reports no gap", async (t) => {
  const { env, client, log } = await addedClient(t);
  receive(env, kept(7, 6));
  client.close();
  await env.pass(1);
  await settled();
  assert.deepEqual(take(log), []);
});

test("the positions of 1,000 former rooms are kept", async (t) => {
  const env = new TestEnv(t);
  await env.open({}, undefined, { inbox });
  const names = Array.from({ length: 1_100 }, (_, i) => `r${i}`);
  const enter = (offset) => names.forEach((room) => {
    receive(env, { message_type: "joined", room, content: joined(offset) });
  });
  enter(1);
  await env.reopen({ inbox });
  enter(2);
  assert.deepEqual(env.socket.requests.map(({ room }) => room), names.slice(100));
});
